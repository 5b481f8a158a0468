-- needs: work marks
-- flags: allow-oom
-- Marks nonces as done, whether they were claimed or not.
for _ = 1, (#ARGV - taken) / 3 do finish(take(), take(), take()) end
write_marks()
return 0
