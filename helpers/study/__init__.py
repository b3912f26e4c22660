"""The study itself: records, tables, figures, the report; what regenerates them."""
