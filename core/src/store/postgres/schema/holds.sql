-- Units set aside: holds, and what is left to do once they have expired.

-- Whether a hold has charged something or still may.
CREATE FUNCTION quotum.stands(h quotum.hold, _now_ms int8) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$
    SELECT h.kept_until_ms > _now_ms
       AND (h.has_charged OR (h.receipt IS NULL AND NOT h.expired AND h.expires_ms > _now_ms))
$$;

-- Deletes some of the holds and leases that are too old, and gives back, or charges, some of what expired ones have
-- set aside on counters that nobody has looked at since.
CREATE FUNCTION quotum.forget_holds(_now_ms int8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _old bytea[] := ARRAY(
        SELECT id FROM quotum.hold WHERE kept_until_ms <= _now_ms
        ORDER BY kept_until_ms LIMIT 4 FOR UPDATE SKIP LOCKED);
    part record;
BEGIN
    IF _old <> '{}' THEN
        DELETE FROM quotum.hold WHERE id = ANY (_old);
        UPDATE quotum.hold_part SET expires_ms = -9223372036854775808 WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM quotum.hold_part WHERE hold = ANY (_old) FOR UPDATE SKIP LOCKED));
    END IF;
    -- In the order of their index: where there were many a while ago, the server would look for any eight of them from
    -- the beginning of the table, and find none.
    FOR part IN
        SELECT hold, place, subject, metric, period, start_s, amount, is_lease FROM quotum.hold_part
        WHERE expires_ms = -9223372036854775808 ORDER BY hold LIMIT 8
    LOOP
        PERFORM 1 FROM quotum.counter
        WHERE subject = part.subject AND metric = part.metric AND period = part.period
          AND start_s = part.start_s
        FOR UPDATE SKIP LOCKED;
        -- Who has the counter locked gives the part back himself. Who had may have done it meanwhile.
        IF FOUND THEN
            DELETE FROM quotum.hold_part
            WHERE hold = part.hold AND place = part.place AND expires_ms = -9223372036854775808;
            IF FOUND THEN
                UPDATE quotum.counter SET
                    held = greatest(held - part.amount, 0),
                    leased = CASE WHEN part.is_lease THEN greatest(leased - part.amount, 0) ELSE leased END,
                    leases = CASE WHEN part.is_lease THEN greatest(leases - 1, 0) ELSE leases END,
                    used = CASE WHEN part.is_lease THEN used + part.amount ELSE used END
                WHERE subject = part.subject AND metric = part.metric AND period = part.period
                  AND start_s = part.start_s;
            END IF;
        ELSE
            DELETE FROM quotum.hold_part
            WHERE hold = part.hold AND place = part.place AND expires_ms = -9223372036854775808
              AND NOT EXISTS (SELECT 1 FROM quotum.counter c
                              WHERE c.subject = part.subject AND c.metric = part.metric
                                AND c.period = part.period AND c.start_s = part.start_s);
        END IF;
    END LOOP;
END $$;

-- Writes a hold down, or a lease of this amount. Its parts are yet to be written.
CREATE FUNCTION quotum.open_hold(
    _now_ms int8, _id bytea, _amount int8, _keys text, _balances int8[], _expires_ms int8, _kept_until_ms int8
) RETURNS void LANGUAGE sql AS $$
    -- What one that was forgotten under this name has left behind is nobody's, and is resolved in time.
    UPDATE quotum.hold_part SET hold = uuid_send(gen_random_uuid()), expires_ms = -9223372036854775808
    WHERE hold = _id;
    INSERT INTO quotum.hold (id, is_lease, amount, at_ms, keys, balances, expires_ms, kept_until_ms)
    VALUES (_id, _amount IS NOT NULL, _amount, _now_ms, _keys, _balances, _expires_ms, _kept_until_ms)
    ON CONFLICT (id) DO UPDATE SET
        is_lease = excluded.is_lease, amount = excluded.amount, at_ms = excluded.at_ms, keys = excluded.keys,
        balances = excluded.balances, expires_ms = excluded.expires_ms, expired = false, settled_ms = NULL,
        receipt = NULL, has_charged = false, kept_until_ms = excluded.kept_until_ms;
$$;

-- Sets units aside. The counters are in the order of their keys; the charges in that of the caller.
CREATE FUNCTION quotum.make_hold(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _amounts int8[], _units int8[],
    _once_subject bytea, _once_key bytea, _arguments bytea, _kept_until_ms int8, _keys text,
    _id bytea, _expires_ms int8, _hold_kept_until_ms int8
) RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE
    done quotum.charged;
    h quotum.hold;
BEGIN
    IF _once_key IS NOT NULL THEN
        done := quotum.recall(_now_ms, _once_subject, _once_key, _arguments);
        IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    END IF;
    PERFORM quotum.lock_name('hold', _id);
    SELECT * INTO h FROM quotum.hold WHERE id = _id;
    IF FOUND AND quotum.stands(h, _now_ms) THEN
        RETURN (2, h.at_ms, h.keys, h.balances, NULL, h.id)::quotum.charged;
    END IF;
    done := quotum.add(_now_ms, _subjects, _metrics, _periods, _starts, _kept_s, _idle_s, _places, _amounts,
                       _units, true);
    IF done.outcome <> 1 THEN RETURN done; END IF;
    IF h.id IS NOT NULL THEN
        SELECT * INTO h FROM quotum.hold WHERE id = _id FOR UPDATE;
        IF FOUND AND quotum.stands(h, _now_ms) THEN
            RAISE EXCEPTION 'the hold was settled meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    PERFORM quotum.open_hold(_now_ms, _id, NULL, _keys, done.balances, _expires_ms, _hold_kept_until_ms);
    INSERT INTO quotum.hold_part (hold, is_lease, place, subject, metric, period, start_s, amount, units, expires_ms)
    SELECT _id, false, i, _subjects[_places[i]], _metrics[_places[i]], _periods[_places[i]], _starts[_places[i]],
           _amounts[i], _units[i], _expires_ms
    FROM generate_series(1, cardinality(_places)) i;
    IF _once_key IS NOT NULL THEN
        PERFORM quotum.remember(_now_ms, _once_subject, _once_key, _arguments, _kept_until_ms, _keys,
                                done.balances, _id);
        PERFORM quotum.forget_steps(_now_ms);
    END IF;
    PERFORM quotum.forget_holds(_now_ms);
    RETURN done;
END $$;

-- What became of a hold that was to be settled: 0 unknown, 1 settled now, 2 settled before, 3 expired. A part of a
-- receipt is eleven numbers: held, used, overage, the balance, the threshold crossed.
CREATE TYPE quotum.settled AS (outcome int4, at_ms int8, keys text, receipt int8[]);

-- What there is to say of a hold that is not open; null of one that is.
CREATE FUNCTION quotum.resolved(h quotum.hold, _now_ms int8) RETURNS quotum.settled LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN h.id IS NULL OR h.kept_until_ms <= _now_ms THEN (0, NULL, NULL, NULL)::quotum.settled
        WHEN h.receipt IS NOT NULL THEN (2, h.settled_ms, h.keys, h.receipt)::quotum.settled
        WHEN h.expired OR h.expires_ms <= _now_ms THEN (3, h.expires_ms, NULL, NULL)::quotum.settled
    END
$$;

-- Settles what a hold or a lease has set aside on counters that are locked, and writes its receipt down.
CREATE FUNCTION quotum.settle_parts(
    _now_ms int8, INOUT c quotum.counters, _id bytea, _used_metrics bytea[], _used_amounts int8[],
    OUT _receipt int8[]
) LANGUAGE plpgsql AS $$
DECLARE
    part record;
    p int4;
    _used int8; _overage int8; _actual int8; _within int8; _fit int8; _crossing int8;
    _has_charged boolean := false;
BEGIN
    _receipt := '{}';
    FOR part IN SELECT * FROM quotum.hold_part WHERE hold = _id ORDER BY place LOOP
        SELECT i INTO p FROM generate_series(1, cardinality(c.subjects)) i
        WHERE c.subjects[i] = part.subject AND c.metrics[i] = part.metric AND c.periods[i] = part.period
          AND c.starts[i] = part.start_s;
        _used := c.used[p];
        _overage := c.overage[p];
        _actual := coalesce(_used_amounts[array_position(_used_metrics, part.metric)], part.amount);
        -- What was held has its place already, even under a limit that was lowered since.
        _within := least(_actual, part.amount);
        c.held[p] := greatest(c.held[p] - part.amount, 0);
        IF part.is_lease THEN
            c.leased[p] := greatest(c.leased[p] - part.amount, 0);
            c.leases[p] := greatest(c.leases[p] - 1, 0);
        END IF;
        c.used[p] := c.used[p] + _within;
        _fit := greatest(least(_actual - _within,
            quotum.ceiling(part.units, c.bonus[p]) - c.used[p] - c.held[p]), 0);
        c.used[p] := c.used[p] + _fit;
        c.overage[p] := least(c.overage[p] + _actual - _within - _fit, 9007199254740991);
        _crossing := quotum.crossing(c.used[p], c.bonus[p], c.told[p], part.units);
        IF _crossing > 0 THEN c.told[p] := _crossing; END IF;
        _used := c.used[p] - _used;
        _overage := c.overage[p] - _overage;
        _has_charged := _has_charged OR _used > 0 OR _overage > 0;
        _receipt := _receipt || ARRAY[part.amount, _used, _overage] || quotum.balance(c, p) || _crossing;
    END LOOP;
    DELETE FROM quotum.hold_part WHERE hold = _id;
    UPDATE quotum.hold SET settled_ms = _now_ms, receipt = _receipt, has_charged = _has_charged WHERE id = _id;
END $$;

-- Locks a hold after its counters, and says what there is to say of it: it may have become another meanwhile.
CREATE FUNCTION quotum.lock_hold(_now_ms int8, h quotum.hold) RETURNS quotum.settled LANGUAGE plpgsql AS $$
DECLARE again quotum.hold;
BEGIN
    SELECT * INTO again FROM quotum.hold WHERE id = h.id FOR UPDATE;
    IF again.at_ms IS DISTINCT FROM h.at_ms OR again.keys IS DISTINCT FROM h.keys
       OR again.expires_ms IS DISTINCT FROM h.expires_ms THEN
        RAISE EXCEPTION 'the hold was made anew meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN quotum.resolved(again, _now_ms);
END $$;

CREATE FUNCTION quotum.settle(_now_ms int8, _id bytea, _used_metrics bytea[], _used_amounts int8[])
RETURNS quotum.settled LANGUAGE plpgsql AS $$
DECLARE
    h quotum.hold;
    done quotum.settled;
    c quotum.counters;
    parts record;
BEGIN
    SELECT * INTO h FROM quotum.hold WHERE id = _id;
    done := quotum.resolved(h, _now_ms);
    IF done.outcome IS NOT NULL THEN RETURN done; END IF;
    SELECT array_agg(subject) AS subjects, array_agg(metric) AS metrics, array_agg(period) AS periods,
           array_agg(start_s) AS starts
    INTO parts
    FROM (SELECT DISTINCT subject, metric, period, start_s FROM quotum.hold_part WHERE hold = _id
          ORDER BY subject, metric, period, start_s) AS sorted;
    IF parts.subjects IS NOT NULL THEN
        c := quotum.lock(_now_ms, parts.subjects, parts.metrics, parts.periods, parts.starts);
    END IF;
    done := quotum.lock_hold(_now_ms, h);
    IF done.outcome IS NULL THEN
        SELECT s.c, s._receipt INTO parts FROM quotum.settle_parts(_now_ms, c, _id, _used_metrics, _used_amounts) s;
        c := parts.c;
        done := (1, _now_ms, h.keys, parts._receipt)::quotum.settled;
    END IF;
    -- Also where it was too late: others that have expired on the same counters were found.
    IF c.subjects IS NOT NULL THEN
        PERFORM quotum.write(_now_ms, c, NULL, NULL);
    END IF;
    RETURN done;
END $$;
