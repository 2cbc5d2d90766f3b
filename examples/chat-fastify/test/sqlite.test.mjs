import { journey } from './journey.mjs'
import { sqlite } from './stores.mjs'

journey(sqlite)
