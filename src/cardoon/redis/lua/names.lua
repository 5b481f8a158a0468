-- flags: no-writes
-- All queues and what is said of them: those that are declared, those that rest, to which broadcast queue each
-- subscribed one belongs, and which of these subscriptions are not over.
return {
  call('SUNION', P .. 'queues', P .. 'used', P .. 'paused'),
  call('SMEMBERS', P .. 'queues'),
  call('SMEMBERS', P .. 'paused'),
  call('HGETALL', P .. 'subscribed'),
  call('ZRANGEBYSCORE', P .. 'subscriptions', '(' .. exact(monotonic), '+inf'),
}
