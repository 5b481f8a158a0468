-- Messages of which there is to be one at a time.

-- name: holders
-- :asked [[id, key], ...]. Whether the id is stored, and who has the key.
SELECT json_group_array(json_array(
    EXISTS (SELECT 1 FROM message WHERE id = json_extract(value, '$[0]')),
    coalesce(
        (SELECT id FROM message WHERE unique_key = json_extract(value, '$[1]')),
        (SELECT id FROM recent WHERE recent.key = json_extract(value, '$[1]') AND until > :now)
    )
))
FROM json_each(:asked);

-- name: mark
-- :rows [[number, key, until or null], ...]. A key that is taken stays with who has it.
UPDATE OR IGNORE message SET unique_key = json_extract(change.value, '$[1]')
FROM json_each(:rows) AS change
WHERE message.number = json_extract(change.value, '$[0]');

-- name: remember
-- :rows as for mark, those with a time; not all of them were inserted
INSERT INTO recent (key, id, until)
SELECT message.unique_key, message.id, json_extract(value, '$[2]')
FROM json_each(:rows)
CROSS JOIN message ON message.number = json_extract(value, '$[0]')
WHERE message.unique_key IS NOT NULL
ON CONFLICT (key) DO UPDATE SET id = excluded.id, until = excluded.until;

