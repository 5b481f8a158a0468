-- needs: epoch
-- flags: allow-oom
-- Tells since when replay marks reach back, and the last number given away. Begins another epoch if it is told to.
if take() == '1' then call('SET', P .. 'epoch', exact(now)) end
return {exact(remembers_since()), call('GET', KEYS[1]) or '0'}
