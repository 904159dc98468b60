import { stack } from "./sheets";

const sheets: string[] = ["base", "tools", "app"];
console.log(stack(sheets));
