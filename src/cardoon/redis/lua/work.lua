-- Who may not write here comes no further. Otherwise the server would stop a client's script in the midst of
-- its work, at the first key that is not for clients.
call('DEL', P .. 'claimed:')
