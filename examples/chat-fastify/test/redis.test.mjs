import { journey } from './journey.mjs'
import { redis } from './stores.mjs'

journey(redis)
