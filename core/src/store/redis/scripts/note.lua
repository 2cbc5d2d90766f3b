-- Notes that an account is about to have something in its outbox, KEYS[1] being where that is noted.
redis.call('ZADD', KEYS[1], digits(server_ms()), next_text())
return 'OK'
