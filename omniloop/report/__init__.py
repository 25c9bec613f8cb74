"""What people look at: pictures, videos, tables, the HTML report."""
