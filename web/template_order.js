// ComfyUI lists templates in the order of the directory, which differs between file systems. Here "start here" comes first.
import { api } from "../../scripts/api.js"

const START = "remove_object"
const FOLDER = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2))

const getWorkflowTemplates = api.getWorkflowTemplates
api.getWorkflowTemplates = async function () {
  const templates = await getWorkflowTemplates.call(this)
  templates[FOLDER]?.sort((a, b) => (b === START) - (a === START) || a.localeCompare(b))
  return templates
}
