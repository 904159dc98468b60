// Only a comment and a function: what changes here changes the bundle only when it changes the program.
export function stack(sheets: string[]): string {
  return sheets.join(" < ");
}
