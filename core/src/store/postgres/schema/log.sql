-- The log, and what is written together with it: plans, subscriptions, identities.

-- Keeps everybody else from the log until the end of the transaction. Numbers given out by transactions that end in
-- another order would be missed by whoever follows the log.
CREATE FUNCTION quotum.lock_log() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock('quotum.event'::regclass::oid::int8)
$$;

CREATE FUNCTION quotum.append(_at_ms int8, _name text, _subject bytea, _is_change boolean, _event text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM quotum.lock_log();
    INSERT INTO quotum.event (at_ms, name, subject, is_change, event)
    VALUES (_at_ms, _name, _subject, _is_change, _event);
END $$;

CREATE FUNCTION quotum.record(
    _before_ms int8, _at_ms int8[], _names text[], _subjects bytea[], _are_changes boolean[], _events text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM quotum.lock_log();
    INSERT INTO quotum.event (at_ms, name, subject, is_change, event)
    SELECT at_ms, name, subject, is_change, event
    FROM unnest(_at_ms, _names, _subjects, _are_changes, _events)
        WITH ORDINALITY AS events (at_ms, name, subject, is_change, event, number)
    ORDER BY number;
    DELETE FROM quotum.event WHERE sequence = ANY (ARRAY(
        SELECT sequence FROM quotum.event WHERE at_ms < _before_ms AND NOT is_change
        ORDER BY at_ms LIMIT 4 * cardinality(_names) FOR UPDATE SKIP LOCKED));
END $$;

CREATE FUNCTION quotum.put_plans(
    _document text, _event_ms int8, _event_name text, _event_subject bytea, _is_change boolean, _event text
) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE _version int8;
BEGIN
    INSERT INTO quotum.plans AS kept (id, version, document) VALUES (1, 1, _document)
    ON CONFLICT (id) DO UPDATE SET version = kept.version + 1, document = excluded.document
    RETURNING version INTO _version;
    PERFORM quotum.append(_event_ms, _event_name, _event_subject, _is_change, _event);
    RETURN _version;
END $$;

CREATE FUNCTION quotum.put_subscription(
    _to quotum.subscription, _event_ms int8, _event_name text, _event_subject bytea, _is_change boolean, _event text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO quotum.subscription SELECT _to.*
    ON CONFLICT (subject) DO UPDATE SET
        plan = excluded.plan, status = excluded.status, since_ms = excluded.since_ms,
        trial_ends_ms = excluded.trial_ends_ms, expires_ms = excluded.expires_ms, anchor_ms = excluded.anchor_ms,
        zone = excluded.zone, account = excluded.account, overrides = excluded.overrides;
    PERFORM quotum.append(_event_ms, _event_name, _event_subject, _is_change, _event);
END $$;

-- Gives a subject `_to` if it has `_from`, a row without a subject for none, and returns what it then has.
CREATE FUNCTION quotum.swap_subscription(
    _from quotum.subscription, _to quotum.subscription, _event_ms int8, _event_name text, _event_subject bytea,
    _is_change boolean, _event text
) RETURNS SETOF quotum.subscription LANGUAGE plpgsql AS $$
BEGIN
    IF _from.subject IS NULL THEN
        INSERT INTO quotum.subscription SELECT _to.* ON CONFLICT DO NOTHING;
    ELSE
        UPDATE quotum.subscription kept SET
            plan = _to.plan, status = _to.status, since_ms = _to.since_ms, trial_ends_ms = _to.trial_ends_ms,
            expires_ms = _to.expires_ms, anchor_ms = _to.anchor_ms, zone = _to.zone, account = _to.account,
            overrides = _to.overrides
        WHERE kept.subject = _to.subject AND kept.* IS NOT DISTINCT FROM _from;
    END IF;
    IF FOUND THEN
        PERFORM quotum.append(_event_ms, _event_name, _event_subject, _is_change, _event);
    END IF;
    RETURN QUERY SELECT * FROM quotum.subscription kept WHERE kept.subject = _to.subject;
END $$;

-- Not where tokens were forgotten after the change that was followed: who forgets them waits for who keeps one, and
-- the other way round. That is looked for among the newest changes: asked whether there is any, the server may begin
-- with the oldest, because there have been many.
CREATE FUNCTION quotum.put_identity(
    _now_ms int8, _token bytea, _subject bytea, _identity text, _kept_until_ms int8, _followed int8, _name text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared('quotum.event'::regclass::oid::int8);
    INSERT INTO quotum.identity (token, subject, identity, kept_until_ms)
    SELECT _token, _subject, _identity, _kept_until_ms
    WHERE (SELECT sequence FROM quotum.event WHERE sequence > _followed AND is_change AND name = _name
           ORDER BY sequence DESC LIMIT 1) IS NULL
    ON CONFLICT (token) DO UPDATE SET
        subject = excluded.subject, identity = excluded.identity, kept_until_ms = excluded.kept_until_ms;
    DELETE FROM quotum.identity WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quotum.identity WHERE kept_until_ms <= _now_ms
        ORDER BY kept_until_ms LIMIT 4 FOR UPDATE SKIP LOCKED));
END $$;

CREATE FUNCTION quotum.forget_identities(
    _token bytea, _subject bytea, _event_ms int8, _event_name text, _event_subject bytea, _is_change boolean,
    _event text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM quotum.lock_log();
    DELETE FROM quotum.identity WHERE token = _token OR subject = _subject;
    PERFORM quotum.append(_event_ms, _event_name, _event_subject, _is_change, _event);
END $$;
