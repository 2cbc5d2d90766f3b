-- Steps that must not be made twice.

-- Notes what was decided of a step without a name; undoes all of it where it is past its turn. This comes last, so that
-- what is refused at the first attempt writes nothing. Seats are few, so that the server would read the table from end to
-- end: all states of all of them, which beside a long transaction are very many.
CREATE FUNCTION quotum.take_turn(
    _asker bytea, _seat int8, _number int8, _mark int8, _granted boolean, _crossed int8[]
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    -- Few steps reach a threshold.
    IF NOT 0 < ANY (_crossed) THEN _crossed := NULL; END IF;
    UPDATE quotum.turn SET number = _number, mark = _mark, granted = _granted, crossed = _crossed
    WHERE asker = _asker AND seat = _seat AND number < _number;
    IF FOUND THEN RETURN; END IF;
    INSERT INTO quotum.turn VALUES (_asker, _seat, _number, _mark, _granted, _crossed, now()) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RAISE EXCEPTION 'this turn was taken before' USING ERRCODE = 'QT001'; END IF;
    -- Some that were left long ago, for each that is new.
    DELETE FROM quotum.turn WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.turn WHERE since < now() - interval '4 hours'
        ORDER BY since LIMIT 4 FOR UPDATE SKIP LOCKED));
END $$;

-- Keeps everybody else from a step or a hold of this name until the end of the transaction.
CREATE FUNCTION quotum.lock_name(_kind text, _name bytea) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('quotum.' || _kind || encode(_name, 'hex'), 0))
$$;

-- What became of a step that was made before; an outcome that is null where none was.
CREATE FUNCTION quotum.recall(_now_ms int8, _subject bytea, _key bytea, _arguments bytea)
RETURNS quotum.charged LANGUAGE plpgsql AS $$
DECLARE
    done quotum.charged;
    s quotum.step;
    h quotum.hold;
BEGIN
    -- The name is locked by a statement of its own: the next one then sees what others have done under it.
    PERFORM quotum.lock_name('step', _subject || '\x00'::bytea || _key);
    SELECT * INTO s FROM quotum.step WHERE subject = _subject AND key = _key AND kept_until_ms > _now_ms;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF s.hold IS NOT NULL THEN
        -- What expired or was released has charged nothing, so there is nothing to do twice.
        SELECT * INTO h FROM quotum.hold WHERE id = s.hold;
        IF NOT FOUND OR NOT quotum.stands(h, _now_ms) THEN RETURN NULL; END IF;
    END IF;
    IF s.arguments <> _arguments THEN
        done.outcome := 3;
        RETURN done;
    END IF;
    RETURN (2, s.at_ms, s.keys, s.balances, NULL, s.hold)::quotum.charged;
END $$;

CREATE FUNCTION quotum.remember(
    _now_ms int8, _subject bytea, _key bytea, _arguments bytea, _kept_until_ms int8, _keys text, _balances int8[],
    _hold bytea
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO quotum.step (subject, key, arguments, at_ms, keys, balances, hold, kept_until_ms)
    VALUES (_subject, _key, _arguments, _now_ms, _keys, _balances, _hold, _kept_until_ms)
    ON CONFLICT (subject, key) DO UPDATE SET
        arguments = excluded.arguments, at_ms = excluded.at_ms, keys = excluded.keys,
        balances = excluded.balances, hold = excluded.hold, kept_until_ms = excluded.kept_until_ms
$$;

-- Deletes some of the steps that are too old, so that none needs a sweep.
CREATE FUNCTION quotum.forget_steps(_now_ms int8) RETURNS void LANGUAGE sql AS $$
    DELETE FROM quotum.step WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.step WHERE kept_until_ms <= _now_ms
        ORDER BY kept_until_ms LIMIT 4 FOR UPDATE SKIP LOCKED))
$$;
