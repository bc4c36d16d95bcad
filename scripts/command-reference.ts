/** A command as oclif's manifest has it, as far as it is for people to read. */
export interface CommandEntry {
  /** `ruleset:print`. */
  readonly id: string
  readonly summary?: string
  readonly description?: string
  readonly examples?: readonly string[]
  readonly args: Readonly<Record<string, { readonly description?: string; readonly required?: boolean }>>
  readonly flags: Readonly<Record<string, FlagEntry>>
}

export interface FlagEntry {
  readonly type: 'boolean' | 'option'
  readonly char?: string
  readonly description?: string
  readonly helpValue?: string
  readonly options?: readonly string[]
  readonly default?: unknown
  readonly multiple?: boolean
  readonly hidden?: boolean
}

/** The program whose commands they are. */
export interface Program {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly commands: readonly CommandEntry[]
}

/** A manual page of section 1, in the man macros. The same program makes the same text on every machine. */
export function manualPage({ name, version, description, commands }: Program): string {
  const lines = [
    `.TH ${name.toUpperCase()} 1 "" "${name} ${version}" "User Commands"`,
    '.SH NAME',
    `${name} \\- ${roff(lowerFirst(description.replace(/\.$/, '')))}`,
    '.SH SYNOPSIS',
    ...commands.flatMap((command) => [`.B ${name} ${words(command)}`, roff(synopsis(command)), '.br']).slice(0, -1),
    '.SH COMMANDS',
    ...commands.flatMap((command) => [
      `.SS ${name} ${words(command)}`,
      ...paragraphs(command),
      ...Object.entries(command.args).flatMap(([arg, { description = '' }]) => [
        '.TP',
        `.I ${roff(arg.toUpperCase())}`,
        roff(description),
      ]),
      ...shownFlags(command).flatMap(([flag, entry]) => [
        '.TP',
        `.B ${roff(flagTerm(flag, entry))}`,
        roff(about(entry)),
      ]),
      ...(command.examples?.length
        ? [
            '.PP',
            'Examples:',
            '.PP',
            '.nf',
            '.RS',
            ...command.examples.map((text) => roff(inProgram(text, name))),
            '.RE',
            '.fi',
          ]
        : []),
    ]),
    '.SH EXIT STATUS',
    ...exitStatus.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, roff(meaning)]),
    '.SH FILES',
    ...files.flatMap(([path, meaning]) => ['.TP', `.I ${roff(path)}`, roff(meaning)]),
    '.SH SEE ALSO',
    '.BR nft (8)',
  ]
  return `${lines.join('\n')}\n`
}

/** Completion of commands, flags and their values for bash. */
export function bashCompletion({ name, commands }: Program): string {
  const cases = commands.map(
    (command) =>
      `    '${words(command)}') flags='${shownFlags(command)
        .map(([flag]) => `--${flag}`)
        .join(' ')}' ;;`,
  )
  const values = valueLists(commands).map(([flag, options]) => `    --${flag}) candidates='${options.join(' ')}' ;;`)
  return `# ${name}(1) completion for bash
_${name}() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} command='' i flags='' candidates=''
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
    -*) break ;;
    *) case " ${groups(commands).join(' ')} " in *" \${COMP_WORDS[i]} "*) command=\${COMP_WORDS[i]} ;; *) command=\${command:+$command }\${COMP_WORDS[i]}; break ;; esac ;;
    esac
  done
  case $before in
${values.join('\n')}
  esac
  if [ -z "$candidates" ]; then
    case $command in
    '') candidates='${firstWords(commands).join(' ')} help' ;;
${groups(commands)
  .map((group) => `    '${group}') candidates='${secondWords(commands, group).join(' ')}' ;;`)
  .join('\n')}
    esac
    case $command in
${cases.join('\n')}
    esac
    case $word in -*) candidates=$flags ;; esac
  fi
  if [ -n "$candidates" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$word")
  else
    compopt -o default
    COMPREPLY=()
  fi
}
complete -F _${name} ${name}
`
}

/** Completion of commands, flags and their values for zsh. */
export function zshCompletion({ name, commands }: Program): string {
  const list = (entries: readonly (readonly [string, string])[]) =>
    entries.map(([word, meaning]) => `    '${quoted(`${word}:${meaning}`)}'`).join('\n')
  const top = firstWords(commands).map((word) => [word, commandSummary(commands, word)] as const)
  const cases = commands.map((command) => {
    const specs = shownFlags(command).map(([flag, entry]) => {
      const value = entry.type === 'boolean' ? '' : `:${entry.helpValue ?? 'value'}:${zshValues(entry)}`
      return `      '${entry.multiple ? '*' : ''}--${flag}[${quoted(about(entry).replace(/[[\]]/g, ''))}]${value}'`
    })
    return `    '${words(command)}')\n      _arguments -S ${['\\', ...specs.map((spec) => `${spec} \\`), "      '*:file:_files'"].join('\n')}\n      ;;`
  })
  return `#compdef ${name}
# ${name}(1) completion for zsh
_${name}() {
  local -a commands
  local command=\${words[2]}
  if (( CURRENT == 2 )); then
    commands=(
${list(top)}
    )
    _describe 'command' commands
    return
  fi
${groups(commands)
  .map(
    (group) => `  if [[ $command == ${group} ]]; then
    if (( CURRENT == 3 )); then
      commands=(
${list(secondWords(commands, group).map((word) => [word, commandSummary(commands, `${group} ${word}`)] as const))}
      )
      _describe 'command' commands
      return
    fi
    command="$command \${words[3]}"
    shift words; (( CURRENT-- ))
  fi`,
  )
  .join('\n')}
  shift words; (( CURRENT-- ))
  case $command in
${cases.join('\n')}
  esac
}
_${name} "$@"
`
}

/** Completion of commands, flags and their values for fish. */
export function fishCompletion({ name, commands }: Program): string {
  const lines = [`# ${name}(1) completion for fish`]
  const firsts = firstWords(commands)
  for (const word of firsts)
    lines.push(
      `complete -c ${name} -f -n __fish_use_subcommand -a ${word} -d '${fishQuoted(commandSummary(commands, word))}'`,
    )
  for (const group of groups(commands)) {
    const seconds = secondWords(commands, group)
    for (const word of seconds) {
      const condition = `__fish_seen_subcommand_from ${group}; and not __fish_seen_subcommand_from ${seconds.join(' ')}`
      const summary = fishQuoted(commandSummary(commands, `${group} ${word}`))
      lines.push(`complete -c ${name} -f -n '${condition}' -a ${word} -d '${summary}'`)
    }
  }
  for (const command of commands) {
    const condition = command.id
      .split(':')
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join('; and ')
    for (const [flag, entry] of shownFlags(command)) {
      const value = entry.type === 'boolean' ? '' : entry.options ? ` -x -a '${entry.options.join(' ')}'` : ' -r'
      const short = entry.char ? ` -s ${entry.char}` : ''
      lines.push(`complete -c ${name} -n '${condition}'${short} -l ${flag}${value} -d '${fishQuoted(about(entry))}'`)
    }
  }
  return `${lines.join('\n')}\n`
}

const exitStatus = [
  ['0', 'allowed, all passed, clean, no difference, healthy; stopped as asked'],
  ['1', 'denied, failed, findings, differences, unhealthy'],
  ['2', 'usage or invalid input; no checks found'],
  ['3', 'undecidable: an unknown name, or nothing known of an address that a policy needs'],
  ['4', 'the firewall or the API server cannot be reached'],
  ['5', 'this machine lacks something, a queue is taken, or a privilege is missing'],
  ['70', 'a defect of the program'],
] as const

const files = [
  ['/etc/knp/knp.yaml', 'configuration'],
  ['/etc/knp/policies', 'policies, where the configuration names them so, as that of the package does'],
  ['/var/lib/knp', 'the last good policies, for a start with broken ones'],
  ['/run/knp/control.sock', 'where the running firewall answers'],
] as const

function words({ id }: CommandEntry): string {
  return id.replaceAll(':', ' ')
}

/** All but those that say nothing of the command. */
function shownFlags({ flags }: CommandEntry): [string, FlagEntry][] {
  return Object.entries(flags)
    .filter(([, { hidden }]) => !hidden)
    .sort(([a], [b]) => (a < b ? -1 : 1))
}

function flagTerm(flag: string, { type, char, helpValue, options, multiple }: FlagEntry): string {
  const value = type === 'boolean' ? '' : `=${options?.join('|') ?? helpValue ?? 'VALUE'}`
  return `${char ? `-${char}, ` : ''}--${flag}${value}${multiple ? '...' : ''}`
}

function about({ description = '', default: value }: FlagEntry): string {
  const text = description.replace(/\s+/g, ' ').trim()
  return value === undefined || value === false || value === '' ? text : `${text} [default: ${value}]`
}

function synopsis({ args, flags }: CommandEntry): string {
  const names = Object.entries(args).map(([arg, { required }]) =>
    required ? arg.toUpperCase() : `[${arg.toUpperCase()}]`,
  )
  return [...names, ...(Object.keys(flags).length > 0 ? ['[options]'] : [])].join(' ')
}

function paragraphs({ summary = '', description = '' }: CommandEntry): string[] {
  const texts = [`${summary.replace(/\.$/, '')}.`, ...description.split(/\n\s*\n/)]
  return texts.filter((text) => text.trim() !== '').flatMap((text) => ['.PP', roff(text.trim())])
}

/** Text that troff shows as it stands. */
function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^(?=[.'])/gm, '\\&')
    .replace(/`/g, '\\(ga')
}

function inProgram(text: string, name: string): string {
  return text.replace(/<%= *config\.bin *%>/g, name)
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}

function firstWords(commands: readonly CommandEntry[]): string[] {
  return [...new Set(commands.map(({ id }) => id.split(':')[0]!))]
}

/** First words that are no commands themselves. */
function groups(commands: readonly CommandEntry[]): string[] {
  return firstWords(commands).filter((word) => commands.some(({ id }) => id.startsWith(`${word}:`)))
}

function secondWords(commands: readonly CommandEntry[], group: string): string[] {
  return commands.flatMap(({ id }) => (id.startsWith(`${group}:`) ? [id.slice(group.length + 1)] : []))
}

function commandSummary(commands: readonly CommandEntry[], named: string): string {
  const own = commands.find((command) => words(command) === named)?.summary
  return own ?? secondWords(commands, named).join(', ')
}

/** Flags whose values are a list, the same for every command that has the flag. */
function valueLists(commands: readonly CommandEntry[]): [string, readonly string[]][] {
  const lists = new Map<string, readonly string[]>()
  for (const command of commands)
    for (const [flag, { options }] of shownFlags(command)) if (options) lists.set(flag, options)
  return [...lists]
}

function zshValues({ options, helpValue }: FlagEntry): string {
  if (options) return `(${options.join(' ')})`
  return helpValue === 'PATH' ? '_files' : ' '
}

/** For a word in single quotes, where a colon parts words. */
function quoted(text: string): string {
  const [first, ...rest] = text.split(':')
  return [first, rest.join('\\:')]
    .filter((part) => part !== '')
    .join(':')
    .replaceAll("'", "'\\''")
}

function fishQuoted(text: string): string {
  return text.replace(/[\\']/g, '\\$&')
}
