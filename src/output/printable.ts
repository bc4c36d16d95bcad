/** Text from files, packets or DNS as a terminal may show it: all control and formatting characters but line ends are written out. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return character === '\n' ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`
  })
}
