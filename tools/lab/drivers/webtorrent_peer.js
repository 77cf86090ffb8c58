// One WebTorrent client with one torrent; Node.js runs this in a namespace.
//
//     node webtorrent_peer.js ORDER.json
//
// The order is what tools.lab.clients.webtorrent writes. Until it is ended it dials its peers
// again every few seconds.
const { readFileSync } = require('fs')
const WebTorrent = require('webtorrent')

const RETRY_MS = 4000

const order = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const client = new WebTorrent(order.settings)
client.on('error', error => {
  console.log('error', error.message)
  process.exit(1)
})
const torrent = client.add(order.source, { path: order.folder })
for (const event of ['metadata', 'ready', 'done', 'noPeers', 'warning', 'wire']) {
  torrent.on(event, detail => console.log(event, detail && (detail.message || detail.remoteAddress)))
}

function dial () {
  if (torrent.numPeers === 0) order.dial.forEach(peer => torrent.addPeer(peer))
}
// Not before the torrent knows its own name.
torrent.on('infoHash', () => {
  dial()
  setInterval(dial, RETRY_MS)
})
