"""The report and the code that builds it: notebooks executed and exported, the PDF report, what is handed in."""
