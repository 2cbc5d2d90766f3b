-- Leases: blocks of units that a process grants from its memory. One is a hold that is charged when it expires.

-- What came of asking for a block: what became of the one that was to be settled first, as of a hold; how large the
-- block is, 0 where none was made; what its counters hold.
CREATE TYPE quotum.leased AS (
    outcome int4, at_ms int8, keys text, receipt int8[], amount int8, balances int8[]
);

-- The counters of a step that settles one block and makes another, each once and in the order in which all steps
-- lock them. Of those that are the new block's, `numbers` says which, and kept_s and idle_s how long they are kept.
CREATE FUNCTION quotum.lease_keys(
    INOUT _subjects bytea[], INOUT _metrics bytea[], INOUT _periods text[], INOUT _starts int8[],
    INOUT _kept_s int8[], INOUT _idle_s int8[], _settled bytea, OUT _numbers int8[]
) LANGUAGE sql AS $$
    WITH asked AS (
        SELECT subject, metric, period COLLATE "C" AS period, start_s, kept_s, idle_s, number
        FROM unnest(_subjects, _metrics, _periods, _starts, _kept_s, _idle_s)
            WITH ORDINALITY AS own (subject, metric, period, start_s, kept_s, idle_s, number)
        UNION ALL
        SELECT subject, metric, period, start_s, NULL, NULL, NULL FROM quotum.hold_part WHERE hold = _settled
    ), sorted AS (
        SELECT DISTINCT ON (subject, metric, period, start_s) * FROM asked
        ORDER BY subject, metric, period, start_s, number NULLS LAST
    )
    SELECT array_agg(subject), array_agg(metric), array_agg(period), array_agg(start_s), array_agg(kept_s),
           array_agg(idle_s), array_agg(number)
    FROM sorted
$$;

-- How many units one more block on a counter may have, by its balance: half of an even share of what is left.
CREATE FUNCTION quotum.share(c quotum.counters, p int4, _units int8) RETURNS int8 IMMUTABLE LANGUAGE sql AS $$
    SELECT greatest(quotum.ceiling(_units, c.bonus[p]) - c.used[p] - c.held[p], 0) / (2 * (c.leases[p] + 1))
$$;

-- Settles one block, where there is one to settle, and makes another as large as the tightest counter allows, unless
-- it would be smaller than `_least`.
CREATE FUNCTION quotum.make_lease(
    _now_ms int8, _subjects bytea[], _metrics bytea[], _periods text[], _starts int8[], _kept_s int8[],
    _idle_s int8[], _places int4[], _amounts int8[], _units int8[], _keys text,
    _id bytea, _least int8, _expires_ms int8, _kept_until_ms int8,
    _settled bytea, _used_metrics bytea[], _used_amounts int8[]
) RETURNS quotum.leased LANGUAGE plpgsql AS $$
DECLARE
    made quotum.hold;
    h quotum.hold;
    done quotum.leased;
    settled quotum.settled;
    c quotum.counters;
    keys record;
    parts record;
    p int4;
BEGIN
    PERFORM quotum.lock_name('hold', _id);
    SELECT * INTO made FROM quotum.hold WHERE id = _id AND is_lease AND kept_until_ms > _now_ms;
    IF _settled IS NOT NULL THEN
        SELECT * INTO h FROM quotum.hold WHERE id = _settled;
        settled := quotum.resolved(h, _now_ms);
    END IF;
    -- A step that is made again has most often settled the other block before.
    IF made.id IS NOT NULL AND (_settled IS NULL OR settled.outcome IS NOT NULL) THEN
        RETURN (settled.outcome, settled.at_ms, settled.keys, settled.receipt, made.amount, made.balances)::quotum.leased;
    END IF;

    SELECT * INTO keys FROM quotum.lease_keys(
        _subjects, _metrics, _periods, _starts, _kept_s, _idle_s,
        CASE WHEN settled.outcome IS NULL THEN _settled END);
    c := quotum.lock(_now_ms, coalesce(keys._subjects, '{}'), keys._metrics, keys._periods, keys._starts);
    IF _settled IS NOT NULL AND settled.outcome IS NULL THEN
        settled := quotum.lock_hold(_now_ms, h);
        IF settled.outcome IS NULL THEN
            SELECT s.c, s._receipt INTO parts
            FROM quotum.settle_parts(_now_ms, c, _settled, _used_metrics, _used_amounts) s;
            c := parts.c;
            settled := (1, _now_ms, h.keys, parts._receipt)::quotum.settled;
        END IF;
    END IF;
    done := (settled.outcome, settled.at_ms, settled.keys, settled.receipt, made.amount, made.balances)::quotum.leased;

    IF made.id IS NULL THEN
        done.amount := 0;
        FOR i IN 1 .. cardinality(_places) LOOP
            _places[i] := array_position(keys._numbers, _places[i]::int8);
            p := _places[i];
            done.amount := least(CASE WHEN i > 1 THEN done.amount END, _amounts[i], quotum.share(c, p, _units[i]));
        END LOOP;
        IF done.amount >= greatest(_least, 1) THEN
            FOREACH p IN ARRAY _places LOOP
                c.held[p] := c.held[p] + done.amount;
                c.leased[p] := c.leased[p] + done.amount;
                c.leases[p] := c.leases[p] + 1;
            END LOOP;
            done.balances := quotum.found(c, _places);
            PERFORM quotum.open_hold(_now_ms, _id, done.amount, _keys, done.balances, _expires_ms, _kept_until_ms);
            INSERT INTO quotum.hold_part
                (hold, is_lease, place, subject, metric, period, start_s, amount, units, expires_ms)
            SELECT _id, true, i, c.subjects[_places[i]], c.metrics[_places[i]], c.periods[_places[i]],
                   c.starts[_places[i]], done.amount, _units[i], _expires_ms
            FROM generate_series(1, cardinality(_places)) i;
        ELSE
            done.amount := 0;
            done.balances := quotum.found(c, _places);
        END IF;
    END IF;
    PERFORM quotum.write(_now_ms, c, keys._kept_s, keys._idle_s);
    IF made.id IS NULL AND done.amount > 0 THEN PERFORM quotum.forget_holds(_now_ms); END IF;
    RETURN done;
END $$;
