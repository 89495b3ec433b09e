"""The pages, one module each with `page(studio)`, which builds the page's content; frame and language stand already.

What takes long goes through `await studio.compute(...)` (one computation at a time) or `await studio.read(...)` (files); a page is
built at once and filled by `ui.timer(0, ..., once=True)`. Visible texts are `studio.t("page.name")`, of the table
`elman/studio/texts/page.toml`. An `ElmanError` is shown in its own words. Whatever a run, a file or a user says is text:
`ui.label`, never HTML.
"""
