import { registerHooks } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  type CompiledWhole,
  type Placed,
  type Placement,
  type PolicyKind,
  pipelineOf,
  policyKinds,
  type WholeEvaluator,
  type WholeKind,
} from './engine/index.ts'
import { KnpError } from './errors.ts'
import { type FileRole, requireTrusted } from './trusted-file.ts'

/** A third party's evaluator as it is configured: plain data, so that each thread loads it for itself. */
export interface EvaluatorModule extends Placement {
  /** Absolute path. */
  readonly module: string
}

const role: FileRole = {
  name: 'an evaluator and what it imports',
  hint: 'name a JavaScript module that can be read; docs/embedding.md shows one',
}

const engine = new URL(import.meta.url.endsWith('.ts') ? './engine/index.ts' : './engine/index.js', import.meta.url)
  .href
/** What decisions that no tier made are put down to. */
const reservedNames = [...policyKinds.map(({ name }) => name), 'Default', 'Exempt']

/**
 * All policy kinds in order of precedence: knp's own, and those of the modules. The same modules give the same pipeline in
 * every thread. Throws KnpError INVALID_CONFIG: a module that is not there, that others could have written, that fails, or
 * that exports no kind; two of one name.
 */
export async function loadPipeline(modules: readonly EvaluatorModule[]): Promise<readonly PolicyKind[]> {
  const placed: (Placed & { readonly module: string })[] = []
  for (const { module, ...placement } of modules) {
    const kind = await loadKind(module)
    const other = placed.find((each) => each.kind.name === kind.name)
    if (other || reservedNames.includes(kind.name)) {
      const owner = other ? other.module : 'knp itself'
      throw invalid(module, `the name "${kind.name}" is taken by ${owner}`, 'give each evaluator a name of its own')
    }
    placed.push({ module, kind, ...placement })
  }
  return pipelineOf(placed)
}

async function loadKind(path: string): Promise<WholeKind> {
  const url = pathToFileURL(requireTrusted(path, role)).href
  // Wherever an evaluator lies it finds the engine, and this one; whatever else it loads is held to the same rule.
  const loaded = new Set([url])
  const hooks = registerHooks({
    resolve(specifier, context, nextResolve) {
      if (!loaded.has(context.parentURL ?? '')) return nextResolve(specifier, context)
      if (specifier === 'knp/engine') return { url: engine, shortCircuit: true }
      const resolved = nextResolve(specifier, context)
      if (resolved.url.startsWith('file:')) requireTrusted(fileURLToPath(resolved.url), role)
      loaded.add(resolved.url)
      return resolved
    },
  })
  try {
    const { default: main, kind } = (await import(url)) as Readonly<Record<string, unknown>>
    return guard(path, requireKind(path, main ?? kind))
  } catch (error) {
    throw error instanceof KnpError ? error : invalid(path, `cannot be loaded: ${String(error)}`, role.hint, error)
  } finally {
    hooks.deregister()
  }
}

function requireKind(path: string, value: unknown): WholeKind {
  const hint = 'export default {name, compile, evaluate}; docs/embedding.md shows one'
  if (value === undefined) throw invalid(path, 'exports neither `default` nor `kind`', hint)
  const kind = value as Partial<WholeKind> | null
  if (typeof kind !== 'object' || kind === null) throw invalid(path, `exports ${String(value)}, no evaluator`, hint)
  if (typeof kind.name !== 'string' || kind.name === '') throw invalid(path, 'its evaluator has no name', hint)
  for (const method of ['compile', 'evaluate'] as const) {
    if (typeof kind[method] !== 'function')
      throw invalid(path, `evaluator ${kind.name}: ${method} is no function`, hint)
  }
  return kind as WholeKind
}

/** Puts down to the module what its code fails with or gets wrong. */
function guard(path: string, kind: WholeKind): WholeKind {
  const attempt = <T>(method: string, call: () => T, isRight: (result: T) => boolean, wanted: string): T => {
    const hint = 'correct the evaluator, or take it out of the configuration'
    let result: T
    try {
      result = call()
    } catch (error) {
      throw invalid(path, `evaluator ${kind.name}: ${method} failed: ${String(error)}`, hint, error)
    }
    if (isRight(result)) return result
    throw invalid(path, `evaluator ${kind.name}: ${method} answered no ${wanted}`, hint)
  }
  return {
    name: kind.name,
    compile: (snapshot, identities) =>
      attempt('compile', () => kind.compile(snapshot, identities), hasSelected, '`selected` table'),
    evaluate: (tables, identities) =>
      attempt('evaluate', () => kind.evaluate(tables, identities), isEvaluator, 'evaluateEgress and evaluateIngress'),
  }
}

function hasSelected(compiled: CompiledWhole | undefined): boolean {
  return typeof compiled?.selected?.length === 'number'
}

function isEvaluator(evaluator: WholeEvaluator | undefined): boolean {
  return typeof evaluator?.evaluateEgress === 'function' && typeof evaluator.evaluateIngress === 'function'
}

function invalid(path: string, problem: string, hint: string, cause?: unknown): KnpError {
  return new KnpError('INVALID_CONFIG', `${path}: ${problem}`, { hint, cause })
}
