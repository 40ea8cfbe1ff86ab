"""The benchmark's page: gathered as data, kept as JSON, shown as Markdown and HTML, compared and judged."""
