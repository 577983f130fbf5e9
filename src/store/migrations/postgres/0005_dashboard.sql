-- What the dashboard pages through.

CREATE INDEX customers_name ON customers (name, id) WHERE gone_at IS NULL;
CREATE INDEX sites_unreadable ON sites (unreadable_scans) WHERE unreadable_scans > 0;
