"""One self-contained HTML page: verdict first, no network, light and dark, on a phone too.

- `page`  what a page consists of, and rendering it (`page.html.j2`, `page.css`)
- `check`, `probe`  the pages
"""
