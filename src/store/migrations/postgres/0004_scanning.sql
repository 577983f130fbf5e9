-- When a scan looked at the customer last: an interrupted scan goes on with those it did not reach, and the next one
-- begins with those that waited longest. It moves whatever the look found; a customer that was not asked keeps it.
ALTER TABLE customers ADD COLUMN scanned_at BIGINT;
