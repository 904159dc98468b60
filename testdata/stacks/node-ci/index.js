const ms = require("ms");

const total = process.argv[2].split(" ").reduce((sum, part) => sum + ms(part), 0);
console.log(`${total / 1000} seconds`);
