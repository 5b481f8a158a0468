"""The bounded cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from cardoon.security.cache import GenerationCache


def test_an_entry_is_found_again():
    cache = GenerationCache(10)

    cache.put("a", 1)

    assert (cache.get("a"), cache.get("b")) == (1, None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=200))
def test_it_never_holds_more_than_its_limit_nor_anything_wrong(steps):
    cache = GenerationCache(10)

    for put, key in steps:
        if put:
            cache.put(key, str(key))
        assert cache.get(key) in {None, str(key)}
        assert len(cache) <= 10


def test_the_half_used_last_is_kept():
    cache = GenerationCache(10)

    for number in range(100):
        cache.put(number, number)

    assert [cache.get(number) for number in range(95, 100)] == list(range(95, 100))
    assert cache.get(0) is None


def test_what_is_used_all_the_time_stays():
    cache = GenerationCache(10)
    cache.put("kept", "kept")

    for number in range(100):
        assert cache.get("kept") == "kept"
        cache.put(number, number)


def test_threads_may_share_it():
    cache = GenerationCache(100)

    def use(start):
        for number in range(start, start + 3000):
            cache.put(number, number)
            assert cache.get(number) in {None, number}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(0, 4000, 1000)))

    assert len(cache) <= 104
