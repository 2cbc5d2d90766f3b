import { journey } from './journey.mjs'
import { postgres } from './stores.mjs'

journey(postgres)
