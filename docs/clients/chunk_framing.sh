# Type an order and Enter, read the answer, type the next; Ctrl+D ends the upload.
curl -N -H 'Expect:' -X POST -T . http://127.0.0.1:8000/orders
