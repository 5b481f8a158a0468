-- needs: work
-- flags: allow-oom
-- Lets queues rest.
while taken < #ARGV do call('SADD', P .. 'paused', take()) end
return 0
