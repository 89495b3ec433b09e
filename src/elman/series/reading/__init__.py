"""From files, frames and databases to a table whose times and numbers are understood."""
