// Where the repository is: the tests run beside their sources, and in a folder with the packed package.
import { existsSync } from 'node:fs'

export const root = (() => {
  let folder = new URL('.', import.meta.url)
  while (!existsSync(new URL('core/tests/vectors/', folder))) {
    const above = new URL('..', folder)
    if (above.href === folder.href) throw new Error('the repository is not around these tests')
    folder = above
  }
  return folder
})()
