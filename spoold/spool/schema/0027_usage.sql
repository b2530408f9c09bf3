-- Usage is summed up a page of people, accounts or printers at a time, in the order of an index:
-- no page goes through what is on the others.
CREATE INDEX charge_account ON charge (holder, happened_us) WHERE is_account;
CREATE INDEX charge_sum_spender ON charge_sum (spender, from_us);
CREATE INDEX charge_sum_account ON charge_sum (holder, from_us) WHERE is_account;
CREATE INDEX charge_sum_printer ON charge_sum (printer, from_us);
