"""The parts of bench/scoreboard: what is measured (cases, measure), and what becomes of the figures (table, charts)."""
