import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { FilesSource } from '../../src/sources/files.ts'
import { KubernetesSource } from '../../src/sources/kubernetes/kubernetes.ts'
import { type SourcePod, testSource } from '../conformance/source.ts'
import { pod, quick, serve } from './kubernetes/follow.ts'

t.test('files', async (t) => {
  testSource(t, async (t, onHealth, pods) => {
    const folder = await mkdtemp(join(tmpdir(), 'knp-source-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const write = async (name: string, text: string) => {
      await writeFile(join(folder, `.${name}`), text)
      await rename(join(folder, `.${name}`), join(folder, name))
    }
    const put = ({ name, app }: SourcePod) =>
      write(`${name}.json`, JSON.stringify({ apiVersion: 'v1', ...pod(name, { app }) }))
    for (const each of pods) await put(each)
    return {
      source: new FilesSource(folder, onHealth),
      put,
      remove: (name) => rm(join(folder, `${name}.json`)),
      break: () => write('broken.json', '{'),
      mend: () => rm(join(folder, 'broken.json')),
    }
  })
})

t.test('the Kubernetes API', async (t) => {
  testSource(t, async (t, onHealth, pods) => {
    const server = await serve(t)
    const access = server.access()
    const put = async ({ name, app }: SourcePod) => server.put(pod(name, { app }))
    for (const each of pods) await put(each)
    const timing = { ...quick, firstPictureMs: 200 }
    return {
      source: new KubernetesSource({}, { onHealth, timing, readAccess: async () => access }),
      put,
      remove: async (name) => server.remove('Pod', `shop/${name}`),
      break: () => server.down(),
      mend: () => server.up(),
    }
  })
})
