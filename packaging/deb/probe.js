// UDP probes for boot-test.sh.
//   serve            echoes on ports 7000 and 7001
//   once PORT        exit status 0 where an answer comes within three seconds
//   pace             a new socket to each port again and again until SIGTERM; then, once the last had time, one line:
//                    allowed SENT ANSWERED denied SENT ANSWERED
import { createSocket } from 'node:dgram'

const SERVER = '10.9.0.1'
const PORTS = [7000, 7001]
const INTERVAL_MS = 200
const PATIENCE_MS = 30_000 * Number(process.env.KNP_TEST_SLOW ?? 1)
const [, , word, port] = process.argv

if (word === 'serve') {
  for (const port of PORTS) {
    const socket = createSocket('udp4')
    socket.on('message', (message, { port, address }) => socket.send(message, port, address))
    socket.bind(port)
  }
} else if (word === 'once') {
  process.exitCode = 1
  ask(Number(port), 3000 * Number(process.env.KNP_TEST_SLOW ?? 1), () => {
    process.exitCode = 0
  })
} else {
  const sent = [0, 0]
  const answered = [0, 0]
  const timer = setInterval(() => {
    PORTS.forEach((port, i) => {
      sent[i]++
      ask(port, PATIENCE_MS, () => {
        answered[i]++
      })
    })
  }, INTERVAL_MS)
  process.once('SIGTERM', () => {
    clearInterval(timer)
    // Those that wait keep the process.
    process.once('beforeExit', () => console.log(`allowed ${sent[0]} ${answered[0]} denied ${sent[1]} ${answered[1]}`))
  })
}

function ask(port, patienceMs, answered) {
  const socket = createSocket('udp4')
  const timer = setTimeout(() => socket.close(), patienceMs)
  socket.on('message', () => {
    answered()
    clearTimeout(timer)
    socket.close()
  })
  socket.send('?', port, SERVER)
}
