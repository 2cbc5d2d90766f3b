-- Tens of thousands of rows in every table that grows, as of 2026-03-01: what is in use, what is old, and what belongs
-- to others.

-- 5,000 subjects with three holds each on today's counter and on the month's; others who were there before.
INSERT INTO quotum_0.counter
SELECT convert_to('subject-' || s, 'UTF8'), 'jobs', 'day', 1772323200 - d * 86400, 3,
       CASE WHEN d = 0 THEN 3 ELSE 0 END, 0, 0, 0, 0, 0
FROM generate_series(0, 4999) s, generate_series(0, 3) d;
INSERT INTO quotum_0.counter
SELECT convert_to('subject-' || s, 'UTF8'), 'jobs', 'month', 1772323200, 12,
       CASE WHEN s < 5000 THEN 3 ELSE 0 END, 0, 0, 0, 0, 0
FROM generate_series(0, 19999) s;
-- One who comes every day, and many who have not come for two years.
INSERT INTO quotum_0.counter
SELECT 'ana', 'jobs', 'day', 1772323200 - d * 86400, 3, 0, 0, 0, 0, 0, 0 FROM generate_series(0, 401) d;
INSERT INTO quotum_0.counter
SELECT convert_to('gone-' || s, 'UTF8'), 'jobs', 'day', 1772323200 - 730 * 86400, 3, 0, 0, 0, 0, 0, 0
FROM generate_series(1, 2000) s;

-- The first quarter is settled and too old, of the rest a tenth has just expired.
INSERT INTO quotum_0.hold (id, is_lease, at_ms, keys, balances, expires_ms, receipt, kept_until_ms)
SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'), false, 1772323100000, '[]', '{}',
       1772323200000 + CASE WHEN i % 10 = 0 THEN -1000 ELSE 3600000 END, CASE WHEN i <= 5000 THEN '{}'::int8[] END,
       1772323200000 + CASE WHEN i <= 5000 THEN -1000 ELSE 86400000 END
FROM generate_series(1, 20000) i;
INSERT INTO quotum_0.hold_part
SELECT id, false, place, convert_to('subject-' || i % 5000, 'UTF8'), 'jobs', period, 1772323200, 1, NULL, expires_ms
FROM (SELECT row_number() OVER (ORDER BY id) AS i, * FROM quotum_0.hold) AS h,
     (VALUES (1, 'day'), (2, 'month')) AS places (place, period)
WHERE i > 5000;

INSERT INTO quotum_0.turn
SELECT decode(md5(i::text), 'hex'), 0, 5, i, true, NULL,
       now() - CASE WHEN i <= 5000 THEN interval '5 hours' ELSE interval '2 seconds' END
FROM generate_series(1, 20000) i;
INSERT INTO quotum_0.step
SELECT convert_to('subject-' || i % 5000, 'UTF8'), convert_to('key-' || i, 'UTF8'), '\x00', 1772323200000, '[]', '{}', NULL,
       1772323200000 + CASE WHEN i <= 10000 THEN -1000 ELSE 86400000 END
FROM generate_series(1, 30000) i;
INSERT INTO quotum_0.rate
SELECT decode(md5(i::text), 'hex'), 1772323200000, '{1}', 1772323200000 + CASE WHEN i <= 5000 THEN -1000 ELSE 60000 END
FROM generate_series(1, 20000) i;
INSERT INTO quotum_0.identity
SELECT decode(md5(i::text) || md5(i::text), 'hex'), convert_to('subject-' || i % 5000, 'UTF8'),
       '{"subject":"ana"}', 1772323200000 + CASE WHEN i <= 5000 THEN -1000 ELSE 60000 END
FROM generate_series(1, 20000) i;

-- A quarter are members of one account.
INSERT INTO quotum_0.subscription (subject, plan, status, since_ms, account)
SELECT convert_to('subject-' || s, 'UTF8'), 'free', 'active', 1772323200000,
       convert_to(CASE WHEN s < 5000 THEN 'acme' ELSE 'team-' || s % 1000 END, 'UTF8')
FROM generate_series(0, 19999) s;

-- Nearly a year of events, of which every other one is a revoked token.
INSERT INTO quotum_0.event (at_ms, name, subject, is_change, event)
SELECT 1772323200000 - (50000 - i) * 600000, CASE WHEN i % 2 = 0 THEN 'token_forgotten' ELSE 'quota_exhausted' END,
       convert_to('subject-' || i % 5000, 'UTF8'), i % 2 = 0, event
FROM generate_series(1, 50000::int8) i, (SELECT event FROM quotum_0.event LIMIT 1) AS first;

-- Parts of holds that have expired on counters of nobody's.
INSERT INTO quotum_0.hold_part
SELECT decode(md5(i::text), 'hex'), false, 1, 'nobody', 'jobs', 'day', 1772323200, 1, NULL, -9223372036854775808
FROM generate_series(1, 20000) i;

ANALYZE;

-- Since the server has counted, those parts have been given back, and a day has begun of which it knows nothing.
DELETE FROM quotum_0.hold_part WHERE subject = 'nobody';
INSERT INTO quotum_0.counter
SELECT convert_to('subject-' || s, 'UTF8'), 'jobs', 'day', 1772323200 + 86400, 3, 0, 0, 0, 0, 0, 0
FROM generate_series(0, 4999) s;
