-- What the schema keeps. Texts that a host chooses may hold any character, a zero too, and are compared byte by
-- byte in every database: they are bytes in UTF-8. To read one, convert_from(subject, 'UTF8').

CREATE TABLE quotum.plans (
    id int2 PRIMARY KEY CHECK (id = 1),
    version int8 NOT NULL,
    document text NOT NULL
);

CREATE TABLE quotum.subscription (
    subject bytea PRIMARY KEY,
    plan bytea NOT NULL,
    status text NOT NULL,
    since_ms int8 NOT NULL,
    trial_ends_ms int8,
    expires_ms int8,
    anchor_ms int8,
    zone bytea,
    account bytea,
    overrides text
);
-- With the subject, in whose order members are listed page by page.
CREATE INDEX subscription_by_account ON quotum.subscription (account, subject) WHERE account IS NOT NULL;

-- Pages have room, so that a counter is changed where it lies and its indexes stay as they are. There are no checks:
-- the server would read them anew for every charge, which would take twice the time. Who reads a counter refuses one
-- that cannot be.
CREATE TABLE quotum.counter (
    subject bytea NOT NULL,
    metric bytea NOT NULL,
    period text COLLATE "C" NOT NULL,
    start_s int8 NOT NULL,
    used int8 NOT NULL,
    held int8 NOT NULL,
    -- Of what is held, what is in leases, and in how many of them.
    leased int8 NOT NULL,
    leases int8 NOT NULL,
    bonus int8 NOT NULL,
    overage int8 NOT NULL,
    told int8 NOT NULL,
    PRIMARY KEY (subject, metric, period, start_s)
) WITH (fillfactor = 70);
-- For those who look for old counters, and say so in these very words. To a period that has begun since the server has
-- counted its rows, it knows none, so that it would take this index for as good a way to one counter as the key.
CREATE INDEX counter_by_age ON quotum.counter (period, start_s)
    WHERE period || '' IN ('minute', 'hour', 'day', 'billing_day');

-- The last step without a name that was decided on each seat of a process, by its number and its own mark, and the
-- thresholds that it has reached. What changes with each step is in no index, so that the row is changed where it lies:
-- the old ones are found by when they were new, as no seat is used for longer than an hour.
CREATE TABLE quotum.turn (
    asker bytea NOT NULL,
    seat int8 NOT NULL,
    number int8 NOT NULL,
    mark int8 NOT NULL,
    granted boolean NOT NULL,
    crossed int8[],
    since timestamptz NOT NULL,
    PRIMARY KEY (asker, seat)
) WITH (fillfactor = 30);
CREATE INDEX turn_by_age ON quotum.turn (since);

CREATE TABLE quotum.step (
    subject bytea NOT NULL,
    key bytea NOT NULL,
    arguments bytea NOT NULL,
    at_ms int8 NOT NULL,
    keys text NOT NULL,
    balances int8[] NOT NULL,
    hold bytea,
    kept_until_ms int8 NOT NULL,
    PRIMARY KEY (subject, key)
);
CREATE INDEX step_by_end ON quotum.step (kept_until_ms);

-- Holds and leases.
CREATE TABLE quotum.hold (
    id bytea PRIMARY KEY,
    is_lease boolean NOT NULL,
    -- How many units of each counter a lease has; of a hold, its parts say that.
    amount int8,
    at_ms int8 NOT NULL,
    keys text NOT NULL,
    balances int8[] NOT NULL,
    expires_ms int8 NOT NULL,
    expired boolean NOT NULL DEFAULT false,
    settled_ms int8,
    receipt int8[],
    has_charged boolean NOT NULL DEFAULT false,
    kept_until_ms int8 NOT NULL
);
CREATE INDEX hold_by_end ON quotum.hold (kept_until_ms);

-- What open holds and leases have set aside. A part whose time is the smallest there is belongs to one that has
-- expired, whatever a clock says.
CREATE TABLE quotum.hold_part (
    hold bytea NOT NULL,
    is_lease boolean NOT NULL,
    place int4 NOT NULL,
    subject bytea NOT NULL,
    metric bytea NOT NULL,
    period text COLLATE "C" NOT NULL,
    start_s int8 NOT NULL,
    amount int8 NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
    units int8,
    expires_ms int8 NOT NULL
);
CREATE INDEX hold_part_by_hold ON quotum.hold_part (hold);
CREATE INDEX hold_part_by_counter ON quotum.hold_part (subject, metric, period, start_s, expires_ms);
CREATE INDEX hold_part_expired ON quotum.hold_part (hold) WHERE expires_ms = -9223372036854775808;

CREATE TABLE quotum.identity (
    token bytea PRIMARY KEY,
    subject bytea NOT NULL,
    identity text NOT NULL,
    kept_until_ms int8 NOT NULL
);
CREATE INDEX identity_by_subject ON quotum.identity (subject);
CREATE INDEX identity_by_end ON quotum.identity (kept_until_ms);

CREATE TABLE quotum.event (
    sequence int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms int8 NOT NULL,
    name text NOT NULL,
    subject bytea,
    is_change boolean NOT NULL,
    event text NOT NULL
);
CREATE INDEX event_by_subject ON quotum.event (subject, sequence) WHERE subject IS NOT NULL;
CREATE INDEX event_that_changed ON quotum.event (sequence) WHERE is_change;
CREATE INDEX event_by_age ON quotum.event (at_ms) WHERE NOT is_change;
