-- Shared rates: what each window of a key owed at a time, in nanoseconds.

CREATE TABLE quotum.rate (
    name bytea PRIMARY KEY,
    at_ms int8 NOT NULL,
    debts int8[] NOT NULL,
    over_ms int8 NOT NULL
);
CREATE INDEX rate_by_end ON quotum.rate (over_ms);

-- Decides a rate: the arithmetic of `pace_all`. What is owed by then comes back as time passes; a cost is taken from
-- all windows where it fits into all of them. The first number that is returned says whether it was.
CREATE FUNCTION quotum.pace(_now_ms int8, _name bytea, _costs int8[], _fulls int8[])
RETURNS int8[] LANGUAGE plpgsql AS $$
DECLARE
    _known quotum.rate;
    _at_ms int8 := _now_ms;
    _elapsed_ms int8 := 0;
    _before int8[] := '{}';
    _after int8[] := '{}';
    _owed int8;
    _fits boolean := true;
BEGIN
    IF cardinality(_costs) = 0 THEN
        DELETE FROM quotum.rate WHERE name = _name;
        RETURN '{1}';
    END IF;
    -- One that is not there is made, and locked by that; one may go just now because it owes nothing any more.
    LOOP
        SELECT * INTO _known FROM quotum.rate WHERE name = _name FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO quotum.rate VALUES (_name, _now_ms, '{}', _now_ms) ON CONFLICT DO NOTHING;
    END LOOP;
    -- A clock that goes back gives nothing back.
    _at_ms := greatest(_now_ms, _known.at_ms);
    _elapsed_ms := _at_ms - _known.at_ms;
    FOR i IN 1 .. cardinality(_costs) LOOP
        _owed := coalesce(_known.debts[i], 0);
        -- No debt is longer than 2^53 nanoseconds, and no product is larger than an int8 then.
        _owed := CASE WHEN _elapsed_ms > 9007199254 THEN 0 ELSE greatest(_owed - _elapsed_ms * 1000000, 0) END;
        _owed := least(_owed, _fulls[i]);
        _before := _before || _owed;
        _after := _after || (_owed + _costs[i]);
        _fits := _fits AND _owed + _costs[i] <= _fulls[i];
    END LOOP;
    IF NOT _fits THEN RETURN 0::int8 || _before; END IF;
    UPDATE quotum.rate
    SET at_ms = _at_ms, debts = _after, over_ms = _at_ms + 1 + (SELECT max(d) FROM unnest(_after) d) / 1000000
    WHERE name = _name;
    DELETE FROM quotum.rate WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.rate WHERE over_ms <= _now_ms AND name <> _name
        ORDER BY over_ms LIMIT 4 FOR UPDATE SKIP LOCKED));
    RETURN 1::int8 || _after;
END $$;
