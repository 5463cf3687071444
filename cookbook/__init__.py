"""The kitchen: what runs around the recipes. A recipe never imports it."""
