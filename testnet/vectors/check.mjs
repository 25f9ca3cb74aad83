// Reads docs/federation/vectors.json with a stock ed25519 and protobuf library and finds out on its
// own whether everything in it is as the protocol says.
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'

const here = (path) => new URL(path, import.meta.url).pathname
const vectors = JSON.parse(readFileSync(here('../../docs/federation/vectors.json')))
const proto = protobuf.loadSync(here('../../proto/proto/entente/federation.proto'))

let checks = 0
const failures = []
function check (what, holds) {
  checks += 1
  if (!holds) failures.push(what)
}
const bytes = (hex) => Buffer.from(hex, 'hex')
const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest('hex')

const privateKey = (seed) => createPrivateKey({
  key: Buffer.concat([bytes('302e020100300506032b657004220420'), bytes(seed)]), format: 'der', type: 'pkcs8',
})
const publicKey = (key) => createPublicKey({
  key: Buffer.concat([bytes('302a300506032b6570032100'), bytes(key)]), format: 'der', type: 'spki',
})
const covered = (use, of) => Buffer.concat([Buffer.from(`entente/1/${use}\0`), bytes(of)])

function base58 (data) {
  const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
  let number = BigInt(`0x${data.toString('hex')}`)
  let text = ''
  for (; number > 0n; number /= 58n) text = alphabet[Number(number % 58n)] + text
  for (const byte of data) {
    if (byte !== 0) break
    text = '1' + text
  }
  return text
}

for (const { seed, public: key, peer_id: peerId } of vectors.keys) {
  const derived = createPublicKey(privateKey(seed)).export({ format: 'der', type: 'spki' })
  check(`key of seed ${seed}`, derived.subarray(-32).toString('hex') === key)
  // A multihash without hashing: of the key in libp2p's protobuf.
  check(`peer ID of ${key}`, base58(Buffer.concat([bytes('002408011220'), bytes(key)])) === peerId)
}

for (const { what, use, key, seed, bytes: signed, signature, holds } of vectors.signatures) {
  const good = bytes(signature).length === 64 && verify(null, covered(use, signed), publicKey(key), bytes(signature))
  check(`signature: ${what}`, good === holds)
  if (holds) check(`signing: ${what}`, sign(null, covered(use, signed), privateKey(seed)).toString('hex') === signature)
}

// What a decoded message says, with bytes in hex and large numbers as text.
function plain (value) {
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(plain)
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]))
  }
  return value
}
const same = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b))
function sorted (value) {
  if (Array.isArray(value)) return value.map(sorted)
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]))
  }
  return value
}
for (const { type, bytes: encoded, says } of vectors.messages) {
  const kind = proto.lookupType(`entente.federation.${type}`)
  const decoded = kind.decode(bytes(encoded))
  const read = plain(kind.toObject(decoded, { longs: Number, enums: Number, keepCase: false }))
  check(`${type} says ${JSON.stringify(read)}`, same(read, says))
  check(`${type} has one encoding`, Buffer.from(kind.encode(decoded).finish()).toString('hex') === encoded)
}

let previous = ''
const Header = proto.lookupType('entente.federation.EntryHeader')
for (const { header, hash, digests, contents } of vectors.log) {
  check(`hash ${hash}`, sha256(Buffer.from('entente/1/entry\0'), bytes(header)) === hash)
  const read = Header.decode(bytes(header))
  check(`entry ${read.seq} follows`, Buffer.from(read.previous).toString('hex') === previous)
  previous = hash
  contents.forEach((content, at) => {
    check(`digest ${digests[at]}`, sha256(bytes(content)) === digests[at])
    check(`entry ${read.seq} names it`, Buffer.from(read.messages[at].digest).toString('hex') === digests[at])
  })
}

// Whether a proof shows that a home has signed two histories.
function proves (encoded) {
  const Proof = proto.lookupType('entente.federation.EquivocationProof')
  const Head = proto.lookupType('entente.federation.GroupHead')
  const proof = Proof.decode(bytes(encoded))
  const heads = [proof.first, proof.second].map((signed) => {
    const { key, signature } = signed.signature
    const head = Buffer.from(signed.head).toString('hex')
    const good = verify(null, covered('head', head), publicKey(Buffer.from(key).toString('hex')), signature)
    return good ? Head.decode(signed.head) : null
  })
  if (heads.includes(null)) return false
  const [first, second] = heads
  if (first.group !== second.group || Number(first.epoch) !== Number(second.epoch)) return false
  if (Number(second.seq) - Number(first.seq) !== proof.headers.length) return false
  let hash = Buffer.from(second.hash).toString('hex')
  for (const header of [...proof.headers].reverse()) {
    if (sha256(Buffer.from('entente/1/entry\0'), header) !== hash) return false
    hash = Buffer.from(Header.decode(header).previous).toString('hex')
  }
  return hash !== Buffer.from(first.hash).toString('hex')
}
for (const { what, bytes: encoded, proves: expected } of vectors.proofs) {
  check(`proof: ${what}`, proves(encoded) === expected)
}

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
function qualified (id) {
  const [local, domain, more] = id.split('@')
  if (domain === undefined || more !== undefined) return null
  const labels = domain.split('.')
  const good = /^[A-Za-z0-9_]{1,64}$/.test(local) && domain.length <= 253 && labels.every((part) => label.test(part)) &&
    !/^[0-9]+$/.test(labels.at(-1))
  return good ? `${local}@${domain.replaceAll('.', '_')}` : null
}
for (const { qualified: id, client } of vectors.names) {
  check(`name ${id}`, qualified(id) === client)
}
for (const { link, url } of vectors.links) {
  check(`link ${link}`, link.replace(/^https?:\/\/.*?\/object\/@/, 'entente://') === url)
}

for (const failure of failures) console.error(`WRONG: ${failure}`)
console.log(`${checks} checks, ${failures.length} wrong`)
process.exit(failures.length === 0 && checks > 0 ? 0 : 1)
