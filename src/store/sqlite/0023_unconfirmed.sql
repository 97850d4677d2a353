-- How many payment methods of each provider a person has ended without its word, as JSON.
ALTER TABLE erasures ADD COLUMN unconfirmed TEXT;
