// Everything works without this: it only saves reloading.
"use strict";
