-- How counters are charged: one call of a function is one statement, and so one round trip and one transaction.
--
-- Whatever a step locks, it locks in one order, so that no two steps wait for each other: its idempotency key, its
-- hold's name, its counters in the order of their keys, holds that it finds expired in the order of their names,
-- the log, its turn. What it deletes because it is too old comes last, and of that it passes over what others have locked.
--
-- A list of counters comes as arrays, one for each part of the key, sorted and without doubles. Which of them a
-- charge is of is its place in those arrays.

-- What came of a step. Its outcome: 0 refused, 1 granted, 2 repeated, 3 in conflict. A balance is seven numbers:
-- used, held, leased, leases, bonus, overage, told.
CREATE TYPE quotum.charged AS (
    outcome int4, at_ms int8, keys text, balances int8[], crossed int8[], hold bytea
);

-- Counters in the hands of a step.
CREATE TYPE quotum.counters AS (
    subjects bytea[], metrics bytea[], periods text[], starts int8[],
    used int8[], held int8[], leased int8[], leases int8[], bonus int8[], overage int8[], told int8[], created boolean[]
);

-- Locks counters, adding those that are not there. What expired holds have set aside is given back, what expired
-- leases have is charged.
CREATE FUNCTION quotum.lock(_now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[])
RETURNS quotum.counters LANGUAGE plpgsql AS $$
DECLARE
    c quotum.counters;
    _used int8; _held int8; _leased int8; _leases int8; _bonus int8; _overage int8; _told int8;
    _created boolean;
    _any_held boolean := false;
    _expired bytea[] := '{}';
    _given int8; _charged int8; _ended int8;
BEGIN
    c.subjects := _subjects; c.metrics := _metrics; c.periods := _periods; c.starts := _starts;
    FOR i IN 1 .. cardinality(_subjects) LOOP
        _created := false;
        LOOP
            SELECT used, held, leased, leases, bonus, overage, told
            INTO _used, _held, _leased, _leases, _bonus, _overage, _told
            FROM quotum.counter
            WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i] AND start_s = _starts[i]
            FOR UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO quotum.counter
            VALUES (_subjects[i], _metrics[i], _periods[i], _starts[i], 0, 0, 0, 0, 0, 0, 0)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                _created := true; _used := 0; _held := 0; _leased := 0; _leases := 0; _bonus := 0; _overage := 0; _told := 0;
                EXIT;
            END IF;
        END LOOP;
        c.used[i] := _used; c.held[i] := _held; c.leased[i] := _leased; c.leases[i] := _leases;
        c.bonus[i] := _bonus; c.overage[i] := _overage; c.told[i] := _told; c.created[i] := _created;
        _any_held := _any_held OR _held > 0;
    END LOOP;
    IF NOT _any_held THEN RETURN c; END IF;

    FOR i IN 1 .. cardinality(_subjects) LOOP
        IF c.held[i] > 0 THEN
            _expired := _expired || ARRAY(
                SELECT hold FROM quotum.hold_part
                WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i]
                  AND start_s = _starts[i] AND expires_ms <= _now_ms);
        END IF;
    END LOOP;
    IF _expired = '{}' THEN RETURN c; END IF;
    -- A hold that has expired on one counter has on all of them, also for those whose clock is behind.
    PERFORM 1 FROM quotum.hold WHERE id = ANY (_expired) ORDER BY id FOR UPDATE;
    UPDATE quotum.hold SET expired = true WHERE id = ANY (_expired) AND receipt IS NULL AND NOT expired;
    UPDATE quotum.hold_part SET expires_ms = -9223372036854775808
    WHERE hold = ANY (_expired) AND expires_ms <> -9223372036854775808;
    FOR i IN 1 .. cardinality(_subjects) LOOP
        IF c.held[i] > 0 THEN
            WITH given AS (
                DELETE FROM quotum.hold_part
                WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i]
                  AND start_s = _starts[i] AND expires_ms <= _now_ms
                RETURNING amount, is_lease)
            SELECT coalesce(sum(amount), 0), coalesce(sum(amount) FILTER (WHERE is_lease), 0),
                   count(*) FILTER (WHERE is_lease)
            INTO _given, _charged, _ended FROM given;
            c.held[i] := greatest(c.held[i] - _given, 0);
            c.leased[i] := greatest(c.leased[i] - _charged, 0);
            c.leases[i] := greatest(c.leases[i] - _ended, 0);
            c.used[i] := c.used[i] + _charged;
        END IF;
    END LOOP;
    RETURN c;
END $$;

-- Deletes what is too old, once a counter was made: of the same subject, metric and period, and some of the oldest
-- of subjects that have not come back. Never of the three newest windows, so that a clock that is years ahead
-- makes nobody's present counter an old one.
CREATE FUNCTION quotum.forget_counters(
    _now_ms int8, _subject bytea, _metric bytea, _period text, _start_s int8, _kept_s int8, _idle_s int8
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE _third_s int8;
BEGIN
    DELETE FROM quotum.counter WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.counter
        WHERE subject = _subject AND metric = _metric AND period = _period AND start_s < _start_s - _kept_s
          AND start_s < (SELECT start_s FROM quotum.counter
                         WHERE subject = _subject AND metric = _metric AND period = _period
                         ORDER BY start_s DESC LIMIT 1 OFFSET 2)
        FOR UPDATE SKIP LOCKED));
    SELECT max(start_s) INTO _third_s FROM quotum.counter
    WHERE period = _period AND period || '' IN ('minute', 'hour', 'day', 'billing_day');
    FOR _window IN 2 .. 3 LOOP
        SELECT max(start_s) INTO _third_s FROM quotum.counter
        WHERE period = _period AND period || '' IN ('minute', 'hour', 'day', 'billing_day') AND start_s < _third_s;
    END LOOP;
    DELETE FROM quotum.counter WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.counter
        WHERE period = _period AND period || '' IN ('minute', 'hour', 'day', 'billing_day') AND held = 0
          AND start_s < _third_s - _idle_s AND start_s < floor(_now_ms / 1000.0) - _idle_s
        ORDER BY start_s LIMIT 4 FOR UPDATE SKIP LOCKED));
END $$;

-- Writes counters that a step has locked. One that it made and that holds nothing leaves no trace.
CREATE FUNCTION quotum.write(_now_ms int8, c quotum.counters, _kept_s int8[], _idle_s int8[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(c.subjects) LOOP
        IF c.created[i] AND c.used[i] + c.held[i] + c.bonus[i] + c.overage[i] + c.told[i] = 0 THEN
            DELETE FROM quotum.counter
            WHERE subject = c.subjects[i] AND metric = c.metrics[i] AND period = c.periods[i]
              AND start_s = c.starts[i];
        ELSE
            UPDATE quotum.counter
            SET used = c.used[i], held = c.held[i], leased = c.leased[i], leases = c.leases[i],
                bonus = c.bonus[i], overage = c.overage[i], told = c.told[i]
            WHERE subject = c.subjects[i] AND metric = c.metrics[i] AND period = c.periods[i]
              AND start_s = c.starts[i]
              AND (used, held, leased, leases, bonus, overage, told)
                  <> (c.used[i], c.held[i], c.leased[i], c.leases[i], c.bonus[i], c.overage[i], c.told[i]);
        END IF;
    END LOOP;
    -- Afterwards, so that nothing is forgotten that is yet to be written.
    FOR i IN 1 .. cardinality(c.subjects) LOOP
        IF c.created[i] AND _kept_s[i] IS NOT NULL THEN
            PERFORM quotum.forget_counters(
                _now_ms, c.subjects[i], c.metrics[i], c.periods[i], c.starts[i], _kept_s[i], _idle_s[i]);
        END IF;
    END LOOP;
END $$;

-- How far a counter may be filled.
CREATE FUNCTION quotum.ceiling(_units int8, _bonus int8) RETURNS int8 IMMUTABLE LANGUAGE sql AS $$
    SELECT least(coalesce(_units + _bonus, 9007199254740991), 9007199254740991)
$$;

-- The threshold that a counter has reached by being used so far and had not reached before; otherwise 0.
CREATE FUNCTION quotum.crossing(_used int8, _bonus int8, _told int8, _units int8)
RETURNS int8 IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE _ceiling int8;
BEGIN
    IF _units IS NULL OR _used = 0 OR _told >= 100 THEN RETURN 0; END IF;
    _ceiling := least(_units + _bonus, 9007199254740991);
    IF _ceiling = 0 OR _used >= _ceiling THEN RETURN 100; END IF;
    IF _told < 80 AND _used * 100 / _ceiling >= 80 THEN RETURN 80; END IF;
    RETURN 0;
END $$;

-- One counter's balance.
CREATE FUNCTION quotum.balance(c quotum.counters, p int4) RETURNS int8[] IMMUTABLE LANGUAGE sql AS $$
    SELECT ARRAY[c.used[p], c.held[p], c.leased[p], c.leases[p], c.bonus[p], c.overage[p], c.told[p]]
$$;

-- What a list of charges finds, in its own order.
CREATE FUNCTION quotum.found(c quotum.counters, _places int4[]) RETURNS int8[] IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    balances int8[] := '{}';
    p int4;
BEGIN
    FOREACH p IN ARRAY _places LOOP
        balances := balances || quotum.balance(c, p);
    END LOOP;
    RETURN balances;
END $$;
