"""Serve the recipe, and the page that `npm run build` has made, from one origin.

Run it in the folder `my-client`; then open http://127.0.0.1:8000/.
"""

import uvicorn
from fastapi.staticfiles import StaticFiles

from recipes.typed_client import app

app.mount("/", StaticFiles(directory="dist", html=True))

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
