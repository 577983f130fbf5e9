-- Nodes that wake each other, leave the same hosts in peace, and keep away from a schema that is newer than they are.

-- A host that failed for one node is left in peace by all; the newest word counts. `scope`: what the word is said for, such
-- as a run. No instant and no reason: it answers. An instant: it is paused. A reason: it is given up.
CREATE TABLE hosts (
    scope   TEXT COLLATE "C" NOT NULL,
    host    TEXT COLLATE "C" NOT NULL,
    told_at BIGINT NOT NULL,
    until   BIGINT,
    probes  BIGINT NOT NULL DEFAULT 0,
    reason  TEXT COLLATE "C",
    detail  TEXT COLLATE "C",
    PRIMARY KEY (scope, host),
    CHECK ((reason IS NULL) = (detail IS NULL)),
    CHECK (until IS NULL OR reason IS NULL)
);

-- A node that takes no work, as the schema is or becomes newer than it is. Nodes of every version write and read this
-- table: its columns keep their meaning for ever.
ALTER TABLE nodes ADD COLUMN resting BIGINT NOT NULL DEFAULT 0 CHECK (resting IN (0, 1));

-- How every writing transaction begins: it takes the state's lock, and is refused if the schema is newer than whoever
-- writes knows. In this order, and each statement of a volatile function sees what was committed until it began: nobody
-- writes on a schema that another node brought up to date just now.
CREATE FUNCTION enter_state(alone BOOLEAN, known BIGINT) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found BIGINT;
BEGIN
    IF alone THEN
        PERFORM pg_advisory_xact_lock(461482751342);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(461482751342);
    END IF;
    SELECT max(version) INTO found FROM _sqlx_migrations;
    IF found > known THEN
        RAISE EXCEPTION 'the schema is newer than this program' USING ERRCODE = 'KG001', DETAIL = found::text;
    END IF;
END $$;

-- Whoever makes something due wakes the nodes, when it is committed. Only a wake-up: they look for themselves, and look
-- without it too. Not with a claim, an attempt or its record: those are frequent, and make nothing due.
CREATE FUNCTION wake_nodes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('kigen', TG_ARGV[0]);
    RETURN NULL;
END $$;

CREATE TRIGGER deliveries_come AFTER INSERT ON deliveries
    FOR EACH ROW WHEN (NEW.state = 'queued') EXECUTE FUNCTION wake_nodes('mail');
CREATE TRIGGER deliveries_are_released AFTER UPDATE OF state, approved_at ON deliveries
    FOR EACH ROW WHEN (NEW.state = 'queued' AND (OLD.state NOT IN ('queued', 'sending')
        OR NEW.approved_at IS DISTINCT FROM OLD.approved_at)) EXECUTE FUNCTION wake_nodes('mail');
CREATE TRIGGER operator_mails_come AFTER INSERT ON operator_mails FOR EACH ROW EXECUTE FUNCTION wake_nodes('mail');
CREATE TRIGGER holds_change AFTER INSERT OR DELETE ON holds FOR EACH ROW EXECUTE FUNCTION wake_nodes('mail');
CREATE TRIGGER runs_are_shared_out AFTER UPDATE OF fleet ON runs
    FOR EACH ROW WHEN (OLD.fleet IS NULL AND NEW.fleet IS NOT NULL) EXECUTE FUNCTION wake_nodes('scan');
