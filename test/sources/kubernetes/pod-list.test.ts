import t, { type Test } from 'tap'
import { ApiClient } from '../../../src/sources/kubernetes/api-client.ts'
import { list } from '../../../src/sources/kubernetes/list.ts'
import { listPods } from '../../../src/sources/kubernetes/pod-list.ts'
import { builtInResources } from '../../../src/sources/kubernetes/resources.ts'
import { listsOf } from './api-server.ts'
import { begin, pod, quick, serve, soon } from './follow.ts'

const { path, wanted } = builtInResources[0]!

async function clientOfOnePod(t: Test): Promise<ApiClient> {
  const server = await serve(t)
  server.put(pod('a'))
  const api = new ApiClient(async () => server.access(), quick)
  t.teardown(() => api.close())
  return api
}

t.test('pods are listed again where the API server has moved meanwhile', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  let asked = 0
  server.disturb(listsOf('pods'), () => {
    asked++
  })
  const following = begin(t, async () => server.access())
  await soon(() => asked === 1)
  following.source.cluster.connectAnew()
  await following.started
  await following.has('Pod shop/a')
})

t.test('a list of pods ends with its source', async (t) => {
  const server = await serve(t)
  let asked = 0
  server.disturb(
    listsOf('pods'),
    () => {
      asked++
    },
    Number.POSITIVE_INFINITY,
  )
  const { started, abort } = begin(t, async () => server.access())
  await soon(() => asked === 1)
  abort.abort()
  await t.rejects(started, { code: 'UNREACHABLE' })
  await soon(() => server.connections === 0)
})

t.test('pods that cannot be taken end their list, and nothing else', async (t) => {
  const api = await clientOfOnePod(t)
  const taker = {
    begin() {},
    takeBatch() {
      throw new Error('a defect')
    },
  }
  const { pageSize, answerMs, silenceMs, freshMs } = quick
  const data = { listed: { path, wanted }, pageSize, timing: { answerMs, silenceMs, freshMs } }
  await t.rejects(listPods(api, data, taker, new AbortController().signal), {
    name: 'Defect',
    message: 'the list of pods cannot be taken, which is a defect of knp: a defect',
  })
})

t.test('what cannot be taken of a list is told as a defect, not as a network that fails', async (t) => {
  const api = await clientOfOnePod(t)
  const taker = {
    begin() {},
    take() {
      throw new Error('too bad')
    },
  }
  const listed = list(api, { resource: { path, wanted }, pageSize: 3 }, taker, new AbortController().signal)
  await t.rejects(listed, {
    name: 'Defect',
    message: "the API server's answer to /api/v1/pods?limit=3 cannot be taken, which is a defect of knp: too bad",
  })
})
