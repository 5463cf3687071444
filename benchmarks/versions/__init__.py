"""What the recipes are measured against."""
