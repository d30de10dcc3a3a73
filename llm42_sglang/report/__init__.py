"""Reports: self-contained HTML pages with the verdict first, for screens of any size.

- `page`   has what a page consists of, and renders it with `page.html.j2` and `page.css`
- `check`  makes the page of `llm42 check`
- `probe`  makes the page of `llm42 probe`
"""
