-- Messages that wait for others to end, and how those ended. A row of `dormant` and state 3 of its
-- message come and go together.

-- name: lay_down
-- :rows [[number, inputs, on failure, run at or 0, delay], ...]; not all of them were inserted
UPDATE message SET state = 3, inputs = json_extract(change.value, '$[1]')
FROM json_each(:rows) AS change
WHERE message.number = json_extract(change.value, '$[0]');

-- name: insert
-- :rows as for lay_down
INSERT INTO dormant (number, missing, on_failure, run_at, delay, look_at)
SELECT
    message.number,
    message.inputs,
    json_extract(value, '$[2]'),
    json_extract(value, '$[3]'),
    json_extract(value, '$[4]'),
    :look_at
FROM json_each(:rows)
CROSS JOIN message ON message.number = json_extract(value, '$[0]');

-- name: insert_inputs
-- :rows [[number, position, predecessor, request], ...]
INSERT INTO input (message, position, predecessor, request)
SELECT
    message.number,
    json_extract(value, '$[1]'),
    json_extract(value, '$[2]'),
    json_extract(value, '$[3]')
FROM json_each(:rows)
CROSS JOIN message ON message.number = json_extract(value, '$[0]');

-- name: known
-- How predecessors of dormant messages ended, where that is known.
SELECT json_group_array(json_array(
    dormant.number, dormant.missing, dormant.on_failure, outcome.succeeded, outcome.skipped
))
FROM json_each(:numbers) AS asked
CROSS JOIN dormant ON dormant.number = asked.value
CROSS JOIN input ON input.message = dormant.number
CROSS JOIN outcome ON outcome.predecessor = input.predecessor;

-- name: successors
-- Who waits for these, if their outcome is news; NULLs for a message that waits no more.
SELECT json_group_array(json_array(
    arrival.key, input.message, dormant.missing, dormant.on_failure
))
FROM json_each(:ids) AS arrival
CROSS JOIN input ON input.predecessor = arrival.value
LEFT JOIN dormant ON dormant.number = input.message
WHERE NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.predecessor = arrival.value);

-- name: insert_outcomes
-- :rows [[predecessor, succeeded, skipped, offset, size], ...]  :frames joined
INSERT INTO outcome (predecessor, succeeded, skipped, frame)
SELECT
    json_extract(value, '$[0]'),
    json_extract(value, '$[1]'),
    json_extract(value, '$[2]'),
    substr(:frames, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
FROM json_each(:rows);

-- name: count_down
-- :rows [[number, how many], ...]
UPDATE dormant SET missing = missing - json_extract(change.value, '$[1]')
FROM json_each(:rows) AS change
WHERE dormant.number = json_extract(change.value, '$[0]');

-- name: wake
UPDATE message
SET
    state = max(dormant.run_at, :now + dormant.delay) <= :now,
    due = max(dormant.run_at, :now + dormant.delay)
FROM json_each(:numbers) AS woken
CROSS JOIN dormant ON dormant.number = woken.value
WHERE message.number = dormant.number;

-- name: wake_at_once
UPDATE message SET state = 1, due = :now
WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: forget
DELETE FROM dormant WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: doomed
-- These messages, and all dormant ones that wait for one of them, directly or not.
WITH RECURSIVE doomed (number) AS (
    SELECT value FROM json_each(:numbers)
    UNION
    SELECT dormant.number
    FROM doomed
    CROSS JOIN message ON message.number = doomed.number
    CROSS JOIN input ON input.predecessor = message.id
    CROSS JOIN dormant ON dormant.number = input.message
)
SELECT json_group_array(number) FROM doomed;

-- name: inputs
-- In order; a size of null says that there is no outcome.
SELECT json_group_array(json_array(
    input.message, input.predecessor, input.request, length(outcome.frame)
))
FROM json_each(:numbers) AS asked
CROSS JOIN input ON input.message = asked.value
LEFT JOIN outcome ON outcome.predecessor = input.predecessor;

-- name: frames
SELECT CAST(group_concat(outcome.frame, '') AS BLOB)
FROM json_each(:predecessors) AS asked
CROSS JOIN outcome ON outcome.predecessor = asked.value;

-- name: to_look_at
SELECT json_group_array(json_array(number, inputs))
FROM (
    SELECT message.number, message.inputs
    FROM dormant
    CROSS JOIN message ON message.number = dormant.number
    WHERE dormant.look_at <= :now
    ORDER BY dormant.look_at LIMIT :limit
);

-- name: strays
-- Those of these messages that wait for one that is nowhere.
SELECT json_group_array(dormant.number)
FROM json_each(:numbers) AS asked
CROSS JOIN dormant ON dormant.number = asked.value
WHERE EXISTS (
    SELECT 1 FROM input
    WHERE input.message = dormant.number
        AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.predecessor = input.predecessor)
        AND NOT EXISTS (SELECT 1 FROM message WHERE message.id = input.predecessor)
        AND NOT EXISTS (SELECT 1 FROM kept WHERE kept.id = input.predecessor)
);

-- name: look_again
UPDATE dormant SET look_at = :look_at
WHERE number IN (SELECT value FROM json_each(:numbers));
