"""From records to tables, figures and a page; imports no simulator and no model."""
