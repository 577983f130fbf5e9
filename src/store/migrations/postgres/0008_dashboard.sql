-- What people did, for the audit trail: few among many events.
CREATE INDEX events_deeds ON events (id)
    WHERE word IN ('approved', 'retried', 'cancelled', 'released', 'hold', 'resume', 'asked');

-- Whoever walks the fleet walks it in the order of its sites, and reads no customer's row: at 100,000 customers the
-- overview's counts take a fifth of the time.
CREATE INDEX customers_here ON customers (id) WHERE gone_at IS NULL;
