-- How counters are charged and adjusted.

-- What counters hold. It locks and writes nothing; null where something has expired, which is resolved under a lock.
CREATE FUNCTION quotum.look(_now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[])
RETURNS quotum.counters LANGUAGE plpgsql AS $$
DECLARE
    c quotum.counters;
    k record;
BEGIN
    FOR i IN 1 .. cardinality(_subjects) LOOP
        SELECT *, CASE WHEN held = 0 THEN false ELSE EXISTS (
            SELECT 1 FROM quotum.hold_part
            WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i]
              AND start_s = _starts[i] AND expires_ms <= _now_ms) END AS has_expired
        INTO k FROM quotum.counter
        WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i] AND start_s = _starts[i];
        IF k.has_expired THEN RETURN NULL; END IF;
        c.used[i] := coalesce(k.used, 0); c.held[i] := coalesce(k.held, 0);
        c.leased[i] := coalesce(k.leased, 0); c.leases[i] := coalesce(k.leases, 0);
        c.bonus[i] := coalesce(k.bonus, 0); c.overage[i] := coalesce(k.overage, 0);
        c.told[i] := coalesce(k.told, 0);
    END LOOP;
    RETURN c;
END $$;

-- What a list of charges finds where one of them cannot fit, whatever others do at once; otherwise null. So who is
-- refused over and over again costs no sync of the disk.
CREATE FUNCTION quotum.refusal(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _places int4[], _amounts int8[],
    _units int8[]
) RETURNS int8[] LANGUAGE plpgsql AS $$
DECLARE
    c quotum.counters := quotum.look(_now_ms, _subjects, _metrics, _periods, _starts);
    p int4;
BEGIN
    FOR i IN 1 .. cardinality(_places) LOOP
        p := _places[i];
        IF _amounts[i] > quotum.ceiling(_units[i], c.bonus[p]) - c.used[p] - c.held[p] THEN
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
    done.balances := quotum.refusal(_now_ms, _subjects, _metrics, _periods, _starts, _places, _amounts, _units);
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
        done.balances := done.balances || quotum.balance(c, p);
    END LOOP;
    PERFORM quotum.write(_now_ms, c, _kept_s, _idle_s);
    RETURN done;
END $$;

-- Charges counters that are there and stay within their limits, where nothing on them has expired and no threshold is
-- reached: the common charge, in one statement for each of them. Null where it is not so; nothing is changed then, and
-- nothing written unless others have charged at the same time.
CREATE FUNCTION quotum.charge_plainly(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _places int4[],
    _amounts int8[], _units int8[]
) RETURNS int8[] LANGUAGE plpgsql AS $$
DECLARE
    n int4 := cardinality(_subjects);
    j int4;
    _s bytea; _m bytea; _p text; _t int8; _amount int8; _limit int8;
    _used int8; _held int8; _leased int8; _leases int8; _bonus int8; _overage int8; _told int8;
    _balances int8[];
BEGIN
    -- Nothing so large fits, and it could not be multiplied.
    IF n <> cardinality(_places) OR 9007199254740991 < ANY (_amounts) THEN RETURN NULL; END IF;
    -- All but the first, whose statement finds out by itself: who is refused over and over again writes nothing.
    FOR i IN 2 .. n LOOP
        j := array_position(_places, i);
        PERFORM 1 FROM quotum.counter
        WHERE subject = _subjects[i] AND metric = _metrics[i] AND period = _periods[i] AND start_s = _starts[i]
          AND used + held + _amounts[j] <= coalesce(_units[j] + bonus, 9007199254740991);
        IF NOT FOUND THEN RETURN NULL; END IF;
    END LOOP;
    FOR i IN 1 .. n LOOP
        j := CASE WHEN n = 1 THEN 1 ELSE array_position(_places, i) END;
        _s := _subjects[i]; _m := _metrics[i]; _p := _periods[i]; _t := _starts[i];
        _amount := _amounts[j]; _limit := _units[j];
        UPDATE quotum.counter SET used = used + _amount
        WHERE subject = _s AND metric = _m AND period = _p AND start_s = _t
          AND used + held + _amount <= least(coalesce(_limit + bonus, 9007199254740991), 9007199254740991)
          AND (_limit IS NULL OR told >= 100 OR (used + _amount < _limit + bonus
               AND (told >= 80 OR (used + _amount) * 100 < least(_limit + bonus, 9007199254740991) * 80)))
          AND (held = 0 OR NOT EXISTS (
               SELECT 1 FROM quotum.hold_part
               WHERE subject = _s AND metric = _m AND period = _p AND start_s = _t AND expires_ms <= _now_ms))
        RETURNING used, held, leased, leases, bonus, overage, told
        INTO _used, _held, _leased, _leases, _bonus, _overage, _told;
        IF NOT FOUND THEN
            FOR k IN 1 .. i - 1 LOOP
                UPDATE quotum.counter SET used = used - _amounts[array_position(_places, k)]
                WHERE subject = _subjects[k] AND metric = _metrics[k] AND period = _periods[k]
                  AND start_s = _starts[k];
            END LOOP;
            RETURN NULL;
        END IF;
        IF n = 1 THEN RETURN ARRAY[_used, _held, _leased, _leases, _bonus, _overage, _told]; END IF;
        _balances[7 * j - 6] := _used; _balances[7 * j - 5] := _held; _balances[7 * j - 4] := _leased;
        _balances[7 * j - 3] := _leases; _balances[7 * j - 2] := _bonus; _balances[7 * j - 1] := _overage;
        _balances[7 * j] := _told;
    END LOOP;
    RETURN _balances;
END $$;

-- The answer to a step without a name that was decided before and whose answer was lost, with what its counters hold
-- now; an outcome that is null where it was not. An error, where its turn was another's.
CREATE FUNCTION quotum.decided_before(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _asker bytea, _seat int8, _number int8, _mark int8
) RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE
    t quotum.turn;
    c quotum.counters;
BEGIN
    SELECT * INTO t FROM quotum.turn WHERE asker = _asker AND seat = _seat AND number >= _number;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF t.number <> _number OR t.mark <> _mark THEN
        RAISE EXCEPTION 'this turn is another''s' USING ERRCODE = 'QT002';
    END IF;
    c := quotum.look(_now_ms, _subjects, _metrics, _periods, _starts);
    IF c IS NULL THEN
        c := quotum.lock(_now_ms, _subjects, _metrics, _periods, _starts);
        PERFORM quotum.write(_now_ms, c, _kept_s, _idle_s);
    END IF;
    RETURN (t.granted::int4, NULL, NULL, quotum.found(c, _places), t.crossed, NULL)::quotum.charged;
END $$;

-- Charges, all or nothing; sums only where they can be charged plainly. A step without a key comes with its turn.
CREATE FUNCTION quotum.charge(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _amounts int8[], _units int8[],
    _once_subject bytea, _once_key bytea, _arguments bytea, _kept_until_ms int8, _keys text, _are_sums boolean,
    _asker bytea DEFAULT NULL, _seat int8 DEFAULT NULL, _number int8 DEFAULT NULL, _mark int8 DEFAULT NULL,
    _is_again boolean DEFAULT false
) RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE
    done quotum.charged;
    _balances int8[];
BEGIN
    IF _is_again THEN
        done := quotum.decided_before(_now_ms, _subjects, _metrics, _periods, _starts, _kept_s, _idle_s, _places,
                                      _asker, _seat, _number, _mark);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    IF _once_key IS NOT NULL THEN
        done := quotum.recall(_now_ms, _once_subject, _once_key, _arguments);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    _balances := quotum.charge_plainly(_now_ms, _subjects, _metrics, _periods, _starts, _places, _amounts, _units);
    IF _balances IS NOT NULL THEN
        done := (1, NULL, NULL, _balances, NULL, NULL)::quotum.charged;
    ELSIF _are_sums THEN
        done := (0, NULL, NULL, NULL, NULL, NULL)::quotum.charged;
    ELSE
        done := quotum.add(_now_ms, _subjects, _metrics, _periods, _starts, _kept_s, _idle_s, _places, _amounts,
                           _units, false);
    END IF;
    -- Of an attempt that is not the first, a refusal too: the first one may have been granted meanwhile, which undoes this
    -- one, or may yet come.
    IF _asker IS NOT NULL AND (done.outcome = 1 OR _is_again) THEN
        PERFORM quotum.take_turn(_asker, _seat, _number, _mark, done.outcome = 1, done.crossed);
    END IF;
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
    _event_ms int8, _event_name text, _event_subject bytea, _is_change boolean, _event text,
    _asker bytea DEFAULT NULL, _seat int8 DEFAULT NULL, _number int8 DEFAULT NULL, _mark int8 DEFAULT NULL,
    _is_again boolean DEFAULT false
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
    IF _is_again THEN
        done := quotum.decided_before(_now_ms, _subjects, _metrics, _periods, _starts, _kept_s, _idle_s, _places,
                                      _asker, _seat, _number, _mark);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    IF _once_key IS NOT NULL THEN
        done := quotum.recall(_now_ms, _once_subject, _once_key, _arguments);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    c := quotum.lock(_now_ms, _subjects, _metrics, _periods, _starts);
    done.outcome := 1; done.balances := '{}'; done.crossed := '{}';
    FOR i IN 1 .. cardinality(_places) LOOP
        p := _places[i];
        n := _amounts[i];
        _before := quotum.balance(c, p);
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
        _after := quotum.balance(c, p);
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
    IF _asker IS NOT NULL THEN PERFORM quotum.take_turn(_asker, _seat, _number, _mark, true, NULL); END IF;
    IF _once_key IS NOT NULL THEN PERFORM quotum.forget_steps(_now_ms); END IF;
    RETURN done;
END $$;
