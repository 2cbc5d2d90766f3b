-- How counters are charged: one call of a function is one statement, and so one round trip and one transaction.
--
-- Whatever a step locks, it locks in one order, so that no two steps wait for each other: its idempotency key, its
-- hold's name, its counters in the order of their keys, holds that it finds expired in the order of their names,
-- the log. What it deletes because it is too old comes last, and of that it passes over what others have locked.
--
-- A list of counters comes as arrays, one for each part of the key, sorted and without doubles. Which of them a
-- charge is of is its place in those arrays.

-- What came of a step. Its outcome: 0 refused, 1 granted, 2 repeated, 3 in conflict. A balance is five numbers:
-- used, held, bonus, overage, told.
CREATE TYPE quotum.charged AS (
    outcome int4, at_ms int8, keys text, balances int8[], crossed int8[], hold bytea
);

-- Counters in the hands of a step.
CREATE TYPE quotum.counters AS (
    subjects bytea[], metrics bytea[], periods text[], starts int8[],
    used int8[], held int8[], bonus int8[], overage int8[], told int8[], created boolean[]
);

-- Locks counters, adding those that are not there, and gives back what holds have set aside that have expired.
CREATE FUNCTION quotum.lock(_now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[])
RETURNS quotum.counters LANGUAGE plpgsql AS $$
DECLARE
    c quotum.counters;
    _used int8; _held int8; _bonus int8; _overage int8; _told int8;
    _created boolean;
    _any_held boolean := false;
    _expired bytea[] := '{}';
    _given int8;
BEGIN
    c.subjects := _subjects; c.metrics := _metrics; c.periods := _periods; c.starts := _starts;
    FOR i IN 1 .. cardinality(_subjects) LOOP
        _created := false;
        LOOP
            SELECT used, held, bonus, overage, told INTO _used, _held, _bonus, _overage, _told
            FROM quotum.counter
            WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i] AND start_s = _starts[i]
            FOR UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO quotum.counter VALUES (_subjects[i], _metrics[i], _periods[i], _starts[i], 0, 0, 0, 0, 0)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                _created := true; _used := 0; _held := 0; _bonus := 0; _overage := 0; _told := 0;
                EXIT;
            END IF;
        END LOOP;
        c.used[i] := _used; c.held[i] := _held; c.bonus[i] := _bonus; c.overage[i] := _overage;
        c.told[i] := _told; c.created[i] := _created;
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
                RETURNING amount)
            SELECT coalesce(sum(amount), 0) INTO _given FROM given;
            c.held[i] := greatest(c.held[i] - _given, 0);
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
    WHERE period = _period AND period IN ('minute', 'hour', 'day', 'billing_day');
    FOR _window IN 2 .. 3 LOOP
        SELECT max(start_s) INTO _third_s FROM quotum.counter
        WHERE period = _period AND period IN ('minute', 'hour', 'day', 'billing_day') AND start_s < _third_s;
    END LOOP;
    DELETE FROM quotum.counter WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.counter
        WHERE period = _period AND period IN ('minute', 'hour', 'day', 'billing_day') AND held = 0
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
            SET used = c.used[i], held = c.held[i], bonus = c.bonus[i], overage = c.overage[i], told = c.told[i]
            WHERE subject = c.subjects[i] AND metric = c.metrics[i] AND period = c.periods[i]
              AND start_s = c.starts[i]
              AND (used, held, bonus, overage, told)
                  <> (c.used[i], c.held[i], c.bonus[i], c.overage[i], c.told[i]);
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

-- What a list of charges finds, in its own order.
CREATE FUNCTION quotum.found(c quotum.counters, _places int4[]) RETURNS int8[] IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    balances int8[] := '{}';
    p int4;
BEGIN
    FOREACH p IN ARRAY _places LOOP
        balances := balances || ARRAY[c.used[p], c.held[p], c.bonus[p], c.overage[p], c.told[p]];
    END LOOP;
    RETURN balances;
END $$;

-- What a list of charges finds where one of them cannot fit, whatever others do at once; otherwise null. It locks
-- and writes nothing, so that who is refused over and over again costs no sync of the disk.
CREATE FUNCTION quotum.refusal(
    _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _places int4[], _amounts int8[],
    _units int8[]
) RETURNS int8[] LANGUAGE plpgsql AS $$
DECLARE
    c quotum.counters;
    k quotum.counter;
    p int4;
BEGIN
    FOR i IN 1 .. cardinality(_subjects) LOOP
        SELECT * INTO k FROM quotum.counter
        WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i] AND start_s = _starts[i];
        -- What is held may have expired, which is found out under a lock.
        IF k.held > 0 THEN RETURN NULL; END IF;
        c.used[i] := coalesce(k.used, 0); c.held[i] := 0; c.bonus[i] := coalesce(k.bonus, 0);
        c.overage[i] := coalesce(k.overage, 0); c.told[i] := coalesce(k.told, 0);
    END LOOP;
    FOR i IN 1 .. cardinality(_places) LOOP
        p := _places[i];
        IF _amounts[i] > quotum.ceiling(_units[i], c.bonus[p]) - c.used[p] THEN
            RETURN quotum.found(c, _places);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Charges or holds, all or nothing.
CREATE FUNCTION quotum.add(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _amounts int8[], _units int8[], _holding boolean
) RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE
    done quotum.charged;
    c quotum.counters;
    before quotum.counters;
    p int4;
    _crossing int8;
BEGIN
    done.outcome := 0; done.crossed := '{}';
    done.balances := quotum.refusal(_subjects, _metrics, _periods, _starts, _places, _amounts, _units);
    IF done.balances IS NOT NULL THEN RETURN done; END IF;

    c := quotum.lock(_now_ms, _subjects, _metrics, _periods, _starts);
    before := c;
    done.outcome := 1; done.balances := '{}';
    FOR i IN 1 .. cardinality(_places) LOOP
        p := _places[i];
        IF _amounts[i] > quotum.ceiling(_units[i], c.bonus[p]) - c.used[p] - c.held[p] THEN
            c := before;
            done.outcome := 0; done.crossed := '{}'; done.balances := quotum.found(c, _places);
            EXIT;
        END IF;
        IF _holding THEN
            c.held[p] := c.held[p] + _amounts[i];
        ELSE
            c.used[p] := c.used[p] + _amounts[i];
        END IF;
        _crossing := quotum.crossing(c.used[p], c.bonus[p], c.told[p], _units[i]);
        IF _crossing > 0 THEN c.told[p] := _crossing; END IF;
        done.crossed := done.crossed || _crossing;
        done.balances := done.balances || ARRAY[c.used[p], c.held[p], c.bonus[p], c.overage[p], c.told[p]];
    END LOOP;
    PERFORM quotum.write(_now_ms, c, _kept_s, _idle_s);
    RETURN done;
END $$;

CREATE FUNCTION quotum.charge(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _amounts int8[], _units int8[],
    _once_subject bytea, _once_key bytea, _arguments bytea, _kept_until_ms int8, _keys text
) RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE done quotum.charged;
BEGIN
    IF _once_key IS NOT NULL THEN
        done := quotum.recall(_now_ms, _once_subject, _once_key, _arguments);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    done := quotum.add(_now_ms, _subjects, _metrics, _periods, _starts, _kept_s, _idle_s, _places, _amounts,
                       _units, false);
    IF _once_key IS NOT NULL AND done.outcome = 1 THEN
        PERFORM quotum.remember(_now_ms, _once_subject, _once_key, _arguments, _kept_until_ms, _keys,
                                done.balances, NULL);
        PERFORM quotum.forget_steps(_now_ms);
    END IF;
    RETURN done;
END $$;

-- Changes counters whatever their limits. How: 0 refund, 1 grant, 2 record, 3 reset.
CREATE FUNCTION quotum.adjust(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _amounts int8[], _units int8[], _how int4[],
    _once_subject bytea, _once_key bytea, _arguments bytea, _kept_until_ms int8, _keys text,
    _event_ms int8, _event_name text, _event_subject bytea, _is_change boolean, _event text
) RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE
    done quotum.charged;
    c quotum.counters;
    p int4;
    n int8;
    _fit int8;
    _before int8[];
    _after int8[];
    _changed boolean := false;
BEGIN
    IF _once_key IS NOT NULL THEN
        done := quotum.recall(_now_ms, _once_subject, _once_key, _arguments);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    c := quotum.lock(_now_ms, _subjects, _metrics, _periods, _starts);
    done.outcome := 1; done.balances := '{}'; done.crossed := '{}';
    FOR i IN 1 .. cardinality(_places) LOOP
        p := _places[i];
        n := _amounts[i];
        _before := ARRAY[c.used[p], c.held[p], c.bonus[p], c.overage[p], c.told[p]];
        CASE _how[i]
            WHEN 0 THEN
                -- What is beyond the limit goes first.
                _fit := least(n, c.overage[p]);
                c.overage[p] := c.overage[p] - _fit;
                c.used[p] := greatest(c.used[p] - (n - _fit), 0);
            WHEN 1 THEN
                c.bonus[p] := least(c.bonus[p] + n, 9007199254740991);
            WHEN 2 THEN
                _fit := greatest(least(n, quotum.ceiling(_units[i], c.bonus[p]) - c.used[p] - c.held[p]), 0);
                c.used[p] := c.used[p] + _fit;
                c.overage[p] := least(c.overage[p] + n - _fit, 9007199254740991);
            ELSE
                c.used[p] := 0;
                c.overage[p] := 0;
        END CASE;
        _after := ARRAY[c.used[p], c.held[p], c.bonus[p], c.overage[p], c.told[p]];
        _changed := _changed OR _after <> _before;
        done.balances := done.balances || _after;
    END LOOP;
    IF _once_key IS NOT NULL THEN
        PERFORM quotum.remember(_now_ms, _once_subject, _once_key, _arguments, _kept_until_ms, _keys,
                                done.balances, NULL);
    END IF;
    IF _changed THEN
        PERFORM quotum.append(_event_ms, _event_name, _event_subject, _is_change, _event);
    END IF;
    PERFORM quotum.write(_now_ms, c, _kept_s, _idle_s);
    IF _once_key IS NOT NULL THEN PERFORM quotum.forget_steps(_now_ms); END IF;
    RETURN done;
END $$;
