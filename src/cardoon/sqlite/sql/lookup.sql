-- Where messages lie, by id; the places are values of cardoon.lookup.Place.

-- name: kept
SELECT kept.id, kept.place
FROM json_each(:ids) AS asked
CROSS JOIN kept ON kept.id = asked.value;

-- name: queued
-- A message that is scheduled and due becomes ready with the next claim.
SELECT
    message.id,
    CASE message.state
        WHEN 3 THEN 'dormant'
        WHEN 2 THEN 'leased'
        WHEN 1 THEN 'ready'
        ELSE CASE WHEN message.due <= :now THEN 'ready' ELSE 'scheduled' END
    END
FROM json_each(:ids) AS asked
CROSS JOIN message ON message.id = asked.value;
